select keeper, count(*) as animals, round(sum(kilograms), 1) as kilograms
from {{ ref('stg_animals') }}
group by keeper
