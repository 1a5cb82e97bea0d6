"""Alembic's entry: connects to the URL it is given and runs the versions beside it, in one transaction."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

# These four register every table on the metadata.
import proxy.access.store  # pyright: ignore[reportUnusedImport]
import proxy.billing.store  # pyright: ignore[reportUnusedImport]
import proxy.catalogue.store  # pyright: ignore[reportUnusedImport]
import proxy.metering.store  # noqa: F401  # pyright: ignore[reportUnusedImport]
from proxy.database import open_engine

engine = open_engine(str(context.config.attributes["url"]))
try:
    with engine.connect() as connection:
        is_sqlite = connection.dialect.name == "sqlite"
        context.configure(
            connection=connection,
            target_metadata=SQLModel.metadata,
            render_as_batch=True,
            transactional_ddl=True,
        )
        is_current = context.get_context().get_current_revision() == context.get_head_revision()
        connection.rollback()  # what was only read
        with context.begin_transaction():
            if is_sqlite and not is_current:
                # Its driver begins none for a CREATE: each would be synced by itself, and a process killed
                # between two would leave a schema that is neither version's.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            context.run_migrations()
        connection.commit()
finally:
    engine.dispose()
