-- Animals of more than twice or less than half the median of their species among the posted ones.
with compared as (
    select name, kilograms, median(kilograms) over (partition by species) as median_kilograms
    from {{ ref('stg_animals') }}
)
select name, kilograms, median_kilograms
from compared
where kilograms > 2 * median_kilograms or kilograms < median_kilograms / 2
