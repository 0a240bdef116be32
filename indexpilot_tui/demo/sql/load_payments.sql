INSERT INTO shop.payments (id, order_id, method, amount_cents, paid_at)
SELECT n,
       n,
       (ARRAY['card', 'card', 'card', 'transfer', 'wallet'])[1 + floor(random() * 5)::int],
       500 + floor(random() * 30000)::int,
       now() - interval '2 years' * (1 - n::float8 / %(orders)s::bigint)
FROM generate_series(1, %(orders)s::bigint) AS n
