-- The artifact. Once the table is there, the server writes it to where everybody reads it.
{{ config(post_hook="copy (from {{ this }} order by zone, day) to 's3://taxi/published/zone_days.parquet'") }}
select
    zone,
    day,
    count(*) as trips,
    sum(minutes) as minutes,
    sum(fare)::decimal(12, 2) as fares,
    sum(tip)::decimal(12, 2) as tips
from {{ ref('stg_trips') }}
group by zone, day
