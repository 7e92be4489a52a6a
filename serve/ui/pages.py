"""The pages as one Gradio application, mounted in the server's: the chat at `/`, reviewing and retraining beside it."""

import os

from assistant.settings import settings

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("GRADIO_TEMP_DIR", str(settings().home / "gradio"))
import gradio
from fastapi import Depends, FastAPI

from serve.access import Access
from serve.errors import nothing_there
from serve.ui.asking import House
from serve.ui.chat_page import build_chat
from serve.ui.chat_parts import SCRIPT, STYLE
from serve.ui.login import Sessions, add_login, page_routes_only
from serve.ui.retrain_page import build_retrain
from serve.ui.review_page import build_review

THEME = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]).set(
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    input_placeholder_color="*neutral_500",
    input_placeholder_color_dark="*neutral_400",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
    button_cancel_background_fill="#b91c1c",
    button_cancel_background_fill_hover="#991b1b",
)
"""Fonts of the reader's own system: the page calls nothing outside. Colours with the contrast that WCAG 2 asks for."""


def build_pages(house: House) -> gradio.Blocks:
    """All pages. Who may use which is checked in each page's handlers, whatever is shown."""
    with gradio.Blocks(title="Thousand", analytics_enabled=False) as pages:
        build_chat(house)
    with pages.route("Review", "/review"):
        gradio.Navbar(main_page_name="Chat")
        build_review(house.access, house.store)
    with pages.route("Retrain", "/retrain"):
        gradio.Navbar(main_page_name="Chat")
        build_retrain(house.access)
    return pages


def mount_pages(app: FastAPI, house: House) -> FastAPI:
    """The application with its pages; with keys, they ask for one as the password of any user name."""
    return mount_blocks(app, build_pages(house), house.access)


def mount_blocks(app: FastAPI, blocks: gradio.Blocks, access: Access) -> FastAPI:
    """The application with pages at `/`, behind their login where keys are asked for, and with none of Gradio's routes but those
    that are needed."""
    sessions = Sessions(access.keys)

    def cookie() -> str:
        return f"access-token-unsecure-{page_app.cookie_id}"

    def knows_key(_: str, password: str) -> bool:
        return access.keys.check(password) is not None

    add_login(app, access, sessions, cookie)
    gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        app_kwargs={
            "dependencies": [Depends(page_routes_only(access, sessions, cookie))],
            "exception_handlers": {404: nothing_there, 405: nothing_there},
        },
        auth=knows_key if access.keys.asked else None,
        auth_message="Any user name; the password is an API key of the server." if access.keys.asked else None,
        footer_links=[],
        run_history=False,
        max_file_size="1mb",
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        theme=THEME,
        css=STYLE.read_text(encoding="utf-8"),
        head=f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>",
    )
    page_app = app.routes[-1].app  # type: ignore[attr-defined]
    page_app.tokens = sessions
    return app
