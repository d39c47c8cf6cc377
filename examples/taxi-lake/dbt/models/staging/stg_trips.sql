-- The trips that were driven: what meters record is not always one.
select
    zone,
    pickup::date as day,
    date_diff('second', pickup, dropoff) / 60 as minutes,
    fare,
    tip
from {{ source('lake', 'trips') }}
where dropoff > pickup and fare > 0
