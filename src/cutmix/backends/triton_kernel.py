"""The kernel of the triton backend. ``triton_layout.py`` says how it goes through a batch; here it is only run.

Triton reads a kernel's source: its constants are spelt in capitals, as Triton's users do, and nothing is annotated but
them. Every float operation is rounded by itself: the launch forbids fused multiply-adds.
"""

try:
    import triton
    from triton import language as tl
    from triton.runtime import driver
except ImportError as error:
    raise ModuleNotFoundError(
        "backend 'triton' needs the package triton, which is not installed: pip install triton, or backend='auto'"
    ) from error

INTERPRETED = triton.knobs.runtime.interpret
"""Whether kernels are interpreted, on tensors of the host: TRITON_INTERPRET=1 was set when triton was imported."""

WORDS = {2: tl.int16, 4: tl.int32, 8: tl.int64}
"""What several pixels are copied as, by their bytes."""

FIRST_ARCHITECTURE = 70


def can_launch() -> bool:
    """Tell whether kernels can be launched: a GPU that Triton compiles for, and the C compiler that it needs."""
    try:
        target = driver.active.get_current_target()
    except Exception:  # noqa: BLE001 - whatever it is, it is in the way
        return False
    return target.backend != "cuda" or target.arch >= FIRST_ARCHITECTURE


@triton.jit(do_not_specialize=["batch"], do_not_specialize_on_alignment=["partners", "boxes", "opacity", "mean", "std"])
def mix(
    images,
    source,
    out,
    partners,
    boxes,
    opacity,
    mean,
    std,
    batch,
    own_step,
    partner_step,
    out_step,
    LENGTHS: tl.constexpr,
    CUT_BY: tl.constexpr,
    UNITS: tl.constexpr,
    OWN_STRIDES: tl.constexpr,
    PARTNER_STRIDES: tl.constexpr,
    OUT_STRIDES: tl.constexpr,
    RANK: tl.constexpr,
    WORD: tl.constexpr,
    WORD_TYPE: tl.constexpr,
    BITS: tl.constexpr,
    SPLITS: tl.constexpr,
    INNER: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    HEIGHT: tl.constexpr,
    RAGGED: tl.constexpr,
    BOX_A_SAMPLE: tl.constexpr,
    OPACITY_A_SAMPLE: tl.constexpr,
    ONLY_INSIDE: tl.constexpr,
    HELD: tl.constexpr,
    BLENDS: tl.constexpr,
    NORMALISES: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Write what a tile of places shows; a place is a pixel, or a word of several of them.

    The tile is of one sample's rows and columns; where the source is HELD, of one row's columns in all samples.

    Args:
        images: where the first pixel of the batch lies; its samples are ``own_step`` apart.
        source: likewise, the batch that partners come from.
        out: likewise, what is written.
        partners: (batch,) int64.
        boxes: (1 or batch, 2, RANK) int64.
        opacity: (1 or batch,) float64.
        mean: (channels,) float32, where it NORMALISES.
        std: (channels,) float32, where it NORMALISES.
        batch: how many samples there are.
        own_step: from sample to sample, in places.
        partner_step: likewise.
        out_step: likewise.
        LENGTHS: of a sample's axes, innermost first.
        CUT_BY: which of the plan's axes cuts each; RANK for the channels, below 0 for none.
        UNITS: how many places make one step of the plan's axis; pixels, along the innermost axis where it SPLITS.
        OWN_STRIDES: in the images.
        PARTNER_STRIDES: in the source.
        OUT_STRIDES: in what is written.
        RANK: how many axes the plan has.
        WORD: how many pixels a place has.
        WORD_TYPE: the whole numbers that hold a place of several pixels.
        BITS: how many bits a pixel has.
        SPLITS: whether edges of boxes cut through places.
        INNER: how many of the axes make up a row.
        COLUMNS: how many places a row has.
        ROWS: how many rows a sample has.
        WIDTH: how many columns a program takes.
        HEIGHT: how many rows of a sample a program takes; samples, where the source is HELD.
        RAGGED: whether some tile has more of them than there are.
        BOX_A_SAMPLE: whether each sample has its own box.
        OPACITY_A_SAMPLE: whether each sample has its own opacity.
        ONLY_INSIDE: whether all outside the boxes is where it belongs.
        HELD: whether the source is what is written: a program then takes the whole batch.
        BLENDS: whether there may be opacities below 1.
        NORMALISES: whether mean and standard deviation are taken out.
        WIDE: whether places need 64 bits.
    """
    images, source, out = _of_words(images, WORD_TYPE), _of_words(source, WORD_TYPE), _of_words(out, WORD_TYPE)
    column, row, sample, exists = _tile(batch, COLUMNS, ROWS, WIDTH, HEIGHT, RAGGED, HELD, WIDE)
    box = boxes + (sample if BOX_A_SAMPLE else 0) * (2 * RANK)
    row_own, row_partner, row_out, row_inside, row_channel = _along(
        row, box, INNER, len(LENGTHS), LENGTHS, CUT_BY, UNITS, OWN_STRIDES, PARTNER_STRIDES, OUT_STRIDES, RANK
    )
    own = images + (sample.to(tl.int64) * own_step + row_own)
    partner = source + (tl.load(partners + sample) * partner_step + row_partner)
    shown = out + (sample.to(tl.int64) * out_step + row_out)
    if SPLITS:
        start, stop = _edges(box, 0, CUT_BY, UNITS, RANK, column.dtype)
        before, until = _pixels_before(start, column, WORD), _pixels_before(stop, column, WORD)
        touched, inside = row_inside & (before < until), row_inside & (before == 0) & (until == WORD)
        at_own, at_partner, at_out = column, column, column
    else:
        at_own, at_partner, at_out, inside, channel = _along(
            column, box, 0, INNER, LENGTHS, CUT_BY, UNITS, OWN_STRIDES, PARTNER_STRIDES, OUT_STRIDES, RANK
        )
        inside = row_inside & inside
        touched, channel = inside, row_channel + channel
    if ONLY_INSIDE:
        if tl.max(touched.to(tl.int32)) == 0:
            return
    touched = touched & exists
    written = touched if ONLY_INSIDE else (row >= 0) & exists
    pasted = tl.load(partner + at_partner, mask=touched)
    if BLENDS:
        share = tl.load(opacity + (sample if OPACITY_A_SAMPLE else 0))
        opaque = share + tl.zeros([1, 1], tl.float64) == 1.0
        value = tl.load(own + at_own, mask=written & ~(inside & opaque))
        if NORMALISES:
            value, pasted = _normalized(value, mean, std, channel), _normalized(pasted, mean, std, channel)
        value = tl.where(inside, tl.where(opaque, pasted, _blended(value, pasted, share)), value)
    else:
        value = tl.load(own + at_own, mask=written & ~inside)
        if SPLITS:
            shown_bits = _bits_of(until, WORD, WORD_TYPE, BITS) & ~_bits_of(before, WORD, WORD_TYPE, BITS)
            value = _put_together(value, pasted, tl.where(row_inside, shown_bits, 0))
        else:
            value = tl.where(inside, pasted, value)
        if NORMALISES:
            value = _normalized(value, mean, std, channel)
    if HELD:
        # All that this program overwrites has been read, by whichever of its threads, before one of them writes.
        tl.debug_barrier()
    tl.store(shown + at_out, value.to(out.dtype.element_ty), mask=written)


@triton.jit
def _of_words(pixels, WORD_TYPE: tl.constexpr):
    """Return a pointer to pixels as one to words of several."""
    return pixels if WORD_TYPE is None else pixels.to(tl.pointer_type(WORD_TYPE), bitcast=True)


@triton.jit
def _tile(
    batch,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    HEIGHT: tl.constexpr,
    RAGGED: tl.constexpr,
    HELD: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Return a program's columns, its rows and samples, one of the two a number, and which of its places exist.

    Below the end a tile has the last row, or the last sample, once more, so that its plan can be read.
    """
    program = tl.program_id(0).to(tl.int64) if WIDE else tl.program_id(0)
    block, group = program % tl.cdiv(COLUMNS, WIDTH), program // tl.cdiv(COLUMNS, WIDTH)
    # Never clamped, and no pointer is chosen by them: so the compiler sees that columns are neighbours in memory.
    column = block * WIDTH + tl.arange(0, WIDTH)[None, :]
    down = tl.arange(0, HEIGHT)[:, None]
    if HELD:
        sample, row, below = tl.minimum(down, batch - 1), group, down >= batch
    else:
        groups: tl.constexpr = tl.cdiv(ROWS, HEIGHT)
        sample, down = group // groups, group % groups * HEIGHT + down
        row, below = tl.minimum(down, ROWS - 1), down >= ROWS
    exists = column < COLUMNS
    return column, row, sample, exists & ~below if RAGGED else exists


@triton.jit
def _along(
    rest,
    box,
    FIRST: tl.constexpr,
    END: tl.constexpr,
    LENGTHS: tl.constexpr,
    CUT_BY: tl.constexpr,
    UNITS: tl.constexpr,
    OWN_STRIDES: tl.constexpr,
    PARTNER_STRIDES: tl.constexpr,
    OUT_STRIDES: tl.constexpr,
    RANK: tl.constexpr,
):
    """Return where places along some axes lie in the three batches, whether boxes have them inside, their channel."""
    own_at, partner_at, out_at, inside, channel = rest * 0, rest * 0, rest * 0, rest >= 0, rest * 0
    for axis in tl.static_range(FIRST, END):
        along = rest % LENGTHS[axis]
        rest = rest // LENGTHS[axis]
        own_at += along * OWN_STRIDES[axis]
        partner_at += along * PARTNER_STRIDES[axis]
        out_at += along * OUT_STRIDES[axis]
        if CUT_BY[axis] == RANK:
            channel += along // UNITS[axis]
        elif CUT_BY[axis] >= 0:
            start, stop = _edges(box, axis, CUT_BY, UNITS, RANK, along.dtype)
            inside = inside & (along >= start) & (along < stop)
    return own_at, partner_at, out_at, inside, channel


@triton.jit
def _edges(box, axis: tl.constexpr, CUT_BY: tl.constexpr, UNITS: tl.constexpr, RANK: tl.constexpr, dtype: tl.constexpr):
    """Return where boxes start and stop along an axis."""
    start, stop = tl.load(box + CUT_BY[axis]), tl.load(box + RANK + CUT_BY[axis])
    return (start * UNITS[axis]).to(dtype), (stop * UNITS[axis]).to(dtype)


@triton.jit
def _pixels_before(edge, word, WORD: tl.constexpr):
    """Return how many of a word's pixels lie before an edge, which is counted in pixels."""
    return tl.minimum(tl.maximum(edge - word * WORD, 0), WORD)


@triton.jit
def _bits_of(pixels, WORD: tl.constexpr, WORD_TYPE: tl.constexpr, BITS: tl.constexpr):
    """Return the bits of a word's first pixels."""
    some = (tl.full([1, 1], 1, WORD_TYPE) << ((pixels % WORD) * BITS).to(WORD_TYPE)) - 1
    return tl.where(pixels == WORD, tl.full([1, 1], -1, WORD_TYPE), some)


@triton.jit
def _put_together(own, pasted, bits):
    """Return words with some bits of the pasted ones and the others of one's own."""
    return (own & ~bits) | (pasted & bits)


@triton.jit
def _normalized(values, mean, std, channel):
    """Return ``(values / 255 - mean) / std`` in float32, each division rounded as IEEE 754 has it."""
    return tl.div_rn(tl.div_rn(values.to(tl.float32), 255.0) - tl.load(mean + channel), tl.load(std + channel))


@triton.jit
def _blended(own, pasted, share):
    """Return ``(1 - share) * own + share * pasted`` in float32 at least: two products and a sum, nothing fused."""
    wide: tl.constexpr = tl.float64 if own.dtype == tl.float64 else tl.float32
    return ((1.0 - share).to(wide) * own.to(wide) + share.to(wide) * pasted.to(wide)).to(own.dtype)
