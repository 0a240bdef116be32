SELECT method, amount_cents, paid_at FROM shop.payments WHERE order_id = %(order)s ORDER BY paid_at DESC LIMIT 1
