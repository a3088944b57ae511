"""Where runs and jobs are kept: one contract, SQLite and PostgreSQL behind it."""
