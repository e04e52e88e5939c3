"""Indexes by which log lines are searched: of their level, their time, and the trigrams of their text."""

from typing import Any

from django.db import DatabaseError, migrations, models, transaction

EXTENSION_MISSING = """
The search of log lines needs PostgreSQL's extension pg_trgm, and this database user could not create it: {error}

It comes with PostgreSQL (Debian: in the package postgresql-NN itself; elsewhere often postgresql-contrib). A superuser
creates it once, in this database, and then the migration goes on from here:

    psql -d {database} -c 'CREATE EXTENSION pg_trgm'
    python manage.py migrate
"""

# The index has no text of its own: it holds for each trigram the ids of the lines that have it. Triggers keep it, so
# that lines that are written or deleted in any way are right in it.
SQLITE = [
    "CREATE VIRTUAL TABLE runs_logline_search USING fts5("
    "line, content='runs_logline', content_rowid='id', tokenize='trigram', detail='none', columnsize=0)",
    "CREATE TRIGGER runs_logline_search_insert AFTER INSERT ON runs_logline BEGIN "
    "INSERT INTO runs_logline_search(rowid, line) VALUES (new.id, new.line); END",
    "CREATE TRIGGER runs_logline_search_delete AFTER DELETE ON runs_logline BEGIN "
    "INSERT INTO runs_logline_search(runs_logline_search, rowid, line) VALUES ('delete', old.id, old.line); END",
    "CREATE TRIGGER runs_logline_search_update AFTER UPDATE OF id, line ON runs_logline BEGIN "
    "INSERT INTO runs_logline_search(runs_logline_search, rowid, line) VALUES ('delete', old.id, old.line); "
    "INSERT INTO runs_logline_search(rowid, line) VALUES (new.id, new.line); END",
    "INSERT INTO runs_logline_search(runs_logline_search) VALUES ('rebuild')",
]
SQLITE_BACK = [
    "DROP TRIGGER runs_logline_search_insert",
    "DROP TRIGGER runs_logline_search_delete",
    "DROP TRIGGER runs_logline_search_update",
    "DROP TABLE runs_logline_search",
]


def _text_index(apps: Any, schema_editor: Any) -> None:
    connection = schema_editor.connection
    if connection.vendor == "postgresql":
        _extension_make(connection)
        schema_editor.execute("CREATE INDEX runs_logline_search ON runs_logline USING gin (line gin_trgm_ops)")
        return
    for statement in SQLITE:
        schema_editor.execute(statement)


def _text_index_back(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX runs_logline_search")
        return
    for statement in SQLITE_BACK:
        schema_editor.execute(statement)


def _extension_make(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")
        if cursor.fetchone():
            return
        try:
            with transaction.atomic(using=connection.alias):
                cursor.execute("CREATE EXTENSION pg_trgm")
        except DatabaseError as error:
            database = connection.settings_dict["NAME"]
            raise RuntimeError(EXTENSION_MISSING.format(error=str(error).strip(), database=database)) from error


class Migration(migrations.Migration):
    dependencies = [("runs", "0008_run_again")]

    operations = [
        migrations.AddIndex(
            model_name="logline",
            index=models.Index(fields=["run", "level", "id"], name="log_lines_by_level"),
        ),
        migrations.AddIndex(
            model_name="logline",
            index=models.Index(fields=["run", "time", "id"], name="log_lines_by_time"),
        ),
        migrations.RunPython(_text_index, _text_index_back),
    ]
