"""Swapped coordinates are told where the data allow it, and nothing else is taken for them."""

import pytest

from heimdall_jax.errors import DataError
from heimdall_jax.sources.swapped import refuse_swapped_stations, refuse_swapped_transmitter
from heimdall_jax.types import Station

ITALY = [Station("Torino", 45.044, 7.672), Station("Genova", 44.395, 8.956), Station("Aosta", 45.737, 7.315)]


def test_a_transmitter_that_is_near_only_when_swapped_is_refused():
    message = (
        r"session 'a', transmitter: got \(7\.5, 45\.1\), 5,[0-9]{3} km from the nearest station; "
        r"allowed: .*within 1,000 km\. Latitude and longitude seem swapped: the other way round it is 15 km\."
    )
    with pytest.raises(DataError, match=message):
        refuse_swapped_transmitter((7.5, 45.1), ITALY, 145e6, "session 'a'")
    with pytest.raises(DataError, match="within 3,000 km"):
        refuse_swapped_transmitter((7.5, 45.1), ITALY, 7e6, "session 'a'")


@pytest.mark.parametrize(
    ("place_deg", "frequency_hz"),
    [
        ((45.1, 7.5), 145e6),  # where it should be
        ((7.5, 80.0), 145e6),  # far either way: another mistake, if it is one
        ((30.0, 31.2), 7e6),  # Cairo on short wave, 2,600 km off
        ((45.1, 120.0), 7e6),  # no latitude when swapped
    ],
)
def test_other_places_are_taken(place_deg, frequency_hz):
    refuse_swapped_transmitter(place_deg, ITALY, frequency_hz, "session 'a'")
    refuse_swapped_transmitter(place_deg, [], frequency_hz, "session 'a'")


def test_a_station_that_is_near_the_others_only_when_swapped_is_refused():
    with pytest.raises(DataError, match=r"station 'Cuneo': got \(7\.5, 44\.4\), .*seem swapped"):
        refuse_swapped_stations([*ITALY, Station("Cuneo", 7.5, 44.4)])


def test_stations_of_a_worldwide_network_are_taken():
    far = [Station("Perth", -31.95, 115.86), Station("Nairobi", -1.29, 36.82), Station("Dallas", 32.78, -96.8)]
    refuse_swapped_stations([*ITALY, *far])
    refuse_swapped_stations([ITALY[0], Station("Cuneo", 7.5, 44.4)])  # of two nobody knows which
