"""What alembic runs to migrate: on the connection, and in the transaction, of `serve.store`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], render_as_batch=True)
context.run_migrations()
