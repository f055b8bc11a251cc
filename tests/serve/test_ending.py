"""What of an unfinished text can be told."""

from langbridge.serve.generation import Ending


def test_half_a_character_does_not_hide_the_beginning_of_a_stop_string() -> None:
    """Byte by byte, a stop string in another script ends in half a character on its way."""
    ending = Ending(frozenset(), ("\nప్రశ్న:",), lambda ids: "")
    assert ending.settled("సరే 28\nప్ర\N{REPLACEMENT CHARACTER}") == "సరే 28"
    assert ending.settled("సరే 28\N{REPLACEMENT CHARACTER}") == "సరే 28"
    assert ending.settled("సరే 28\nప్రా") == "సరే 28\nప్రా"
