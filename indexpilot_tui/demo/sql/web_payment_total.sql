SELECT sum(amount_cents) AS paid_cents FROM shop.payments WHERE order_id = %(order)s
