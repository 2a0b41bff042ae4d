-- What a journal needs to know of the database before it uses it. `tables` tells whether the schema is one of ours.
SELECT current_database() AS database, current_user AS role, current_setting('server_encoding') AS encoding,
    current_setting('server_version_num')::int AS release, current_setting('server_version') AS version,
    current_setting('default_transaction_isolation') AS isolation,
    EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS "schema",
    EXISTS (
        SELECT FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
        WHERE n.nspname = $1 AND t.relname = 'about' AND t.relkind = 'r'
    ) AS tables
