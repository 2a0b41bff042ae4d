-- Notes the time, unless another node has noted a later one. Returns the later of both.
INSERT INTO {schema}.clock AS c (at) VALUES ($1)
ON CONFLICT (one) DO UPDATE SET at = greatest(c.at, excluded.at) RETURNING c.at
