-- Makes $1 the newest and the earliest position.
UPDATE {schema}.head SET seq = $1, tag = $2, floor_seq = $1, floor_tag = $2
