"""Conversations, their messages, what was said of answers, and the dialogues that wait to be reviewed."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "conversation",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(64)),
        sa.Column("deleting", sa.Boolean, nullable=False),
    )
    op.create_table(
        "message",
        sa.Column(
            "conversation_id", sa.String(32), sa.ForeignKey("conversation.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("parent", sa.String(64)),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("release", sa.String(64)),
        sa.Column("sampling", sa.JSON),
    )
    op.create_table(
        "opinion",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column(
            "conversation_id",
            sa.String(32),
            sa.ForeignKey("conversation.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("message", sa.String(64), nullable=False),
        sa.Column("verdict", sa.String(16)),
        sa.Column("reason", sa.Text),
        sa.Column("wanted", sa.Text),
        sa.Column("keep", sa.Boolean, nullable=False),
        sa.Column("consent", sa.Boolean, nullable=False),
        sa.Column("given_by", sa.String(64)),
        sa.Column("given", sa.String(32), nullable=False),
    )
    op.create_table(
        "candidate",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("conversation_id", sa.String(32), sa.ForeignKey("conversation.id", ondelete="CASCADE"), index=True),
        sa.Column("message", sa.String(64)),
        sa.Column("dialogue", sa.JSON, nullable=False),
        sa.Column("answered", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("line", sa.Text),
    )
