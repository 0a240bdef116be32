-- Planted trouble: the second index is a left prefix of the first, and takes half of its work for no gain.
ALTER TABLE shop.payments ADD CONSTRAINT payments_pkey PRIMARY KEY (id);
CREATE INDEX payments_order_id_paid_at_idx ON shop.payments (order_id, paid_at);
CREATE INDEX payments_order_id_idx ON shop.payments (order_id);
SELECT setval(pg_get_serial_sequence('shop.payments', 'id'), max(id)) FROM shop.payments;
