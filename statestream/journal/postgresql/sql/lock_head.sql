SELECT seq, tag FROM {schema}.head FOR UPDATE
