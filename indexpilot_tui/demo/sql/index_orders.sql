-- Planted trouble: orders_reference_idx is used by nobody.
ALTER TABLE shop.orders ADD CONSTRAINT orders_pkey PRIMARY KEY (id);
CREATE INDEX orders_customer_id_placed_at_idx ON shop.orders (customer_id, placed_at);
CREATE INDEX orders_reference_idx ON shop.orders (reference);
SELECT setval(pg_get_serial_sequence('shop.orders', 'id'), max(id)) FROM shop.orders;
