-- Animals that are more than a fifth heavier or lighter than is typical of their species.
select
    name,
    case when kilograms > typical_kilograms then 'over' else 'under' end as verdict,
    round(100 * kilograms / typical_kilograms)::bigint as percent_of_typical
from {{ ref('stg_animals') }}
where abs(kilograms - typical_kilograms) > typical_kilograms / 5
