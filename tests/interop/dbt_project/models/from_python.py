def model(dbt, session):
    dbt.config(materialized="table")
    orders = dbt.ref("stg_orders")
    return orders.filter("status = 'shipped'").project("order_id, amount")
