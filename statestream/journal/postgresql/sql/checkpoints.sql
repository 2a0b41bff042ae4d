SELECT seq, tag, at, bytes, slices, total FROM {schema}.checkpoints ORDER BY seq
