-- Planted troubles: the hot query looks for product_id, which has no index; order_id has the same index twice.
ALTER TABLE shop.order_items ADD CONSTRAINT order_items_pkey PRIMARY KEY (id);
CREATE INDEX order_items_order_id_idx ON shop.order_items (order_id);
CREATE INDEX order_items_order_idx ON shop.order_items (order_id);
SELECT setval(pg_get_serial_sequence('shop.order_items', 'id'), max(id)) FROM shop.order_items;
