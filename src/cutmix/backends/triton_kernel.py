"""The kernel of the triton backend. What it is called with says ``triton.py``; here it is only run.

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
    PLACES: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    SAMPLES: tl.constexpr,
    BOX_A_SAMPLE: tl.constexpr,
    OPACITY_A_SAMPLE: tl.constexpr,
    ONLY_INSIDE: tl.constexpr,
    HELD: tl.constexpr,
    BLENDS: tl.constexpr,
    NORMALISES: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Write what a tile of places shows in some samples.

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
        own_step: from sample to sample, in elements.
        partner_step: likewise.
        out_step: likewise.
        LENGTHS: of a sample's axes, innermost first.
        CUT_BY: which of the plan's axes cuts each; RANK for the channels, below 0 for none.
        UNITS: how many places make one step of the plan's axis.
        OWN_STRIDES: in the images.
        PARTNER_STRIDES: in the source.
        OUT_STRIDES: in what is written.
        RANK: how many axes the plan has.
        PLACES: how many pixels a sample has.
        TILE: how many of them a program takes.
        TILES: how many programs a sample takes.
        SAMPLES: how many samples a program takes.
        BOX_A_SAMPLE: whether each sample has its own box.
        OPACITY_A_SAMPLE: whether each sample has its own opacity.
        ONLY_INSIDE: whether all outside the boxes is where it belongs.
        HELD: whether the source is what is written: this program's samples are then the whole batch.
        BLENDS: whether there may be opacities below 1.
        NORMALISES: whether mean and standard deviation are taken out.
        WIDE: whether places need 64 bits.
    """
    program = tl.program_id(0)
    tile = program % TILES
    if WIDE:
        tile = tile.to(tl.int64)
    place = tile * TILE + tl.arange(0, TILE)[None, :]
    sample = (program // TILES) * SAMPLES + tl.arange(0, SAMPLES)[:, None]
    # Samples beyond the batch read the last one's plan, and write nothing; a single sample's is read once, not a place.
    planned = tl.minimum(sample, batch - 1) if SAMPLES > 1 else program // TILES
    boxed = planned if BOX_A_SAMPLE else 0
    starts = boxes + boxed * (2 * RANK)
    first = tl.zeros([1, 1], tl.int32)
    inside = place < PLACES
    rest, own_at, partner_at, out_at, channel = place, first, first, first, first
    for axis in tl.static_range(len(LENGTHS)):
        along = rest % LENGTHS[axis]
        rest = rest // LENGTHS[axis]
        own_at = own_at + along * OWN_STRIDES[axis]
        partner_at = partner_at + along * PARTNER_STRIDES[axis]
        out_at = out_at + along * OUT_STRIDES[axis]
        if CUT_BY[axis] == RANK:
            channel = along // UNITS[axis]
        elif CUT_BY[axis] >= 0:
            start = tl.load(starts + CUT_BY[axis]) * UNITS[axis]
            stop = tl.load(starts + RANK + CUT_BY[axis]) * UNITS[axis]
            inside = inside & (along >= start.to(along.dtype)) & (along < stop.to(along.dtype))
    if ONLY_INSIDE:
        if tl.max(inside.to(tl.int32)) == 0:
            return
    exists = (sample < batch) & (place < PLACES)
    written = exists & inside if ONLY_INSIDE else exists
    own_pixel = images + (sample.to(tl.int64) * own_step + own_at)
    partner_pixel = source + (tl.load(partners + planned) * partner_step + partner_at)
    if BLENDS:
        share = tl.load(opacity + (planned if OPACITY_A_SAMPLE else 0))
        opaque = share + tl.zeros([1, 1], tl.float64) == 1.0
        pasted = tl.load(partner_pixel, mask=exists & inside)
        own = tl.load(own_pixel, mask=written & ~(inside & opaque))
        if NORMALISES:
            own = _normalized(own, mean + channel, std + channel)
            pasted = _normalized(pasted, mean + channel, std + channel)
        blended = _blended(own, pasted, share)
        value = tl.where(inside, tl.where(opaque, pasted, blended), own)
    else:
        shown_pixel = partner_pixel if ONLY_INSIDE else tl.where(inside, partner_pixel, own_pixel)
        value = tl.load(shown_pixel, mask=written)
        if NORMALISES:
            value = _normalized(value, mean + channel, std + channel)
    if HELD:
        # All that this program overwrites has been read, by whichever of its threads, before one of them writes.
        tl.debug_barrier()
    tl.store(out + (sample.to(tl.int64) * out_step + out_at), value.to(out.dtype.element_ty), mask=written)


@triton.jit
def _normalized(values, mean, std):
    """Return ``(values / 255 - mean) / std`` in float32, each division rounded as IEEE 754 has it."""
    return tl.div_rn(tl.div_rn(values.to(tl.float32), 255.0) - tl.load(mean), tl.load(std))


@triton.jit
def _blended(own, pasted, share):
    """Return ``(1 - share) * own + share * pasted`` in float32 at least: two products and a sum, nothing fused."""
    wide: tl.constexpr = tl.float64 if own.dtype == tl.float64 else tl.float32
    return ((1.0 - share).to(wide) * own.to(wide) + share.to(wide) * pasted.to(wide)).to(own.dtype)
