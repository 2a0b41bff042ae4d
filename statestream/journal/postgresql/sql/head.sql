SELECT seq, tag, floor_seq, floor_tag FROM {schema}.head
