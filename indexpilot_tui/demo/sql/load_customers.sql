-- A few people registered twice, with the same address in another spelling.
INSERT INTO shop.customers (id, email, full_name, country, created_at, last_seen_at)
SELECT n,
       CASE WHEN mod(n, 400) = 0 THEN 'Customer' || n - 1 ELSE 'customer' || n END || '@example.com',
       'Customer ' || n,
       (ARRAY['DE', 'FR', 'NL', 'AT', 'PL', 'SE'])[1 + floor(6 * power(random(), 2))::int],
       now() - random() * interval '3 years',
       now() - random() * interval '90 days'
FROM generate_series(1, %(customers)s::bigint) AS n
