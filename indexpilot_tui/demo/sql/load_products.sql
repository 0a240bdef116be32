INSERT INTO shop.products (id, sku, name, price_cents, stock)
SELECT n, 'SKU-' || lpad(n::text, 6, '0'), 'Product ' || n, 199 + floor(random() * 20000)::int, 500
FROM generate_series(1, %(products)s::bigint) AS n
