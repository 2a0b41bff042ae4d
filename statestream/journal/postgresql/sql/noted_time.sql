SELECT at FROM {schema}.clock
