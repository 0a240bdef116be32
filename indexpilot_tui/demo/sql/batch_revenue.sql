SELECT date_trunc('hour', paid_at) AS hour, count(*) AS payments, sum(amount_cents) AS cents
FROM shop.payments WHERE paid_at >= now() - interval '1 day' GROUP BY 1 ORDER BY 1
