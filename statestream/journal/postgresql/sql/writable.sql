-- Whether the server is a standby, or refuses writes otherwise.
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS read_only
