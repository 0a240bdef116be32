"""What pg_stat_kcache and pg_wait_sampling tell of statements, where a database has them."""
