"""Chatting with a release: engines, the one path of a chat turn, HTTP and pages."""
