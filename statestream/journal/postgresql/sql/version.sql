SELECT version FROM {schema}.about
