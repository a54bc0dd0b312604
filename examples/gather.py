"""gather: ask several services at once and get the answers in the order asked.

Teaches that gather() runs its awaitables side by side, that its results stand in
the order of its arguments whatever finishes first, and how return_exceptions=True
keeps one failure from hiding the other answers.

Prints the weather stations as they answer, then the readings in the order asked.

    python examples/gather.py
"""

import asyncio

import asyncfast

# Seconds until the station answers, and its reading in degrees Celsius.
STATIONS = {"Oslo": (0.09, 4.5), "Nairobi": (0.03, 23.0), "Lima": (0.06, 18.5)}


async def temperature(city: str) -> float:
    if city not in STATIONS:
        raise LookupError(f"no weather station in {city}")
    delay, celsius = STATIONS[city]
    await asyncio.sleep(delay)
    print(f"  {city} answers")
    return celsius


async def main() -> None:
    print("all of them answer:")
    readings = await asyncio.gather(*(temperature(city) for city in STATIONS))
    for city, celsius in zip(STATIONS, readings, strict=True):
        print(f"{city}: {celsius} degrees")

    print("one of them fails:")
    cities = ["Oslo", "Atlantis", "Lima"]
    results = await asyncio.gather(*map(temperature, cities), return_exceptions=True)
    for city, result in zip(cities, results, strict=True):
        if isinstance(result, BaseException):
            print(f"{city}: unknown ({result})")
        else:
            print(f"{city}: {result} degrees")


if __name__ == "__main__":
    asyncfast.run(main())
