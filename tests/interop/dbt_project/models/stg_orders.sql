{{ config(materialized='view') }}
select id as order_id, customer_id, ordered_on, amount::decimal(10, 2) as amount, status from {{ ref('orders') }}
