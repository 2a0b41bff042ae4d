-- Notes up to where the history was looked through, unless another node has noted a later position.
INSERT INTO {schema}.folding AS f (seq, tag) VALUES ($1, $2)
ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, tag = excluded.tag WHERE f.seq < excluded.seq
