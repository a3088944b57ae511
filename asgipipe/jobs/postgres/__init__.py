"""The queue of a PostgreSQL store, on PgQueuer (https://github.com/janbjorge/pgqueuer); importing it needs both.

PgQueuer is maintained, gives the deliveries of a dead worker to another one by itself, and shows all of its SQL, so
that a delivery is inserted in the transaction of its job. procrastinate, which was the other choice, has open issues
about deliveries that stay with a dead worker for ever: https://github.com/procrastinate-org/procrastinate/issues/1518.
"""

from asgipipe.jobs.postgres.queue import PostgresQueue

__all__ = ["PostgresQueue"]
