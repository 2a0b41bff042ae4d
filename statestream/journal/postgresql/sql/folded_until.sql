SELECT seq, tag FROM {schema}.folding
