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
        context.configure(connection=connection, target_metadata=SQLModel.metadata, render_as_batch=True)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
finally:
    engine.dispose()
