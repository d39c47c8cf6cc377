-- Rows here are failures.
select 1 where (select sum(amount) from {{ ref('orders_by_day') }}) <> (select sum(amount) from {{ ref('stg_orders') }})
