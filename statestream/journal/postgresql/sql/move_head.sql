UPDATE {schema}.head SET seq = $1, tag = $2
