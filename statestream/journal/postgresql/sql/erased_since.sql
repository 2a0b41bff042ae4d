-- The slices that were erased after a position.
SELECT DISTINCT slice FROM {schema}.changes WHERE seq > $1 AND type = 'statestream/erased' AND request <> ''
