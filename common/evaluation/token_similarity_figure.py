"""Figure of a token similarity evaluation."""


def draw_similarity(means: list[float], deviations: list[float]) -> bytes:
    """Return a plot of similarity over layers, with a band of one standard deviation over images, as a PNG file."""
    # Not at the top: a run draws once, at its end, and matplotlib takes as long to import as a short run.
    from common.figures import Figure, figure_settings, png_bytes

    with figure_settings({}):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.subplots()
        layers = list(range(len(means)))
        low = [mean - deviation for mean, deviation in zip(means, deviations, strict=True)]
        high = [mean + deviation for mean, deviation in zip(means, deviations, strict=True)]
        axes.fill_between(layers, low, high, color="#1559c7", alpha=0.15, linewidth=0)
        axes.plot(layers, means, color="#1559c7", marker="o", markersize=4)
        axes.set(xlabel="layer (0 stem, 1 position embedding, then the blocks)", ylabel="cosine similarity of tokens")
        axes.grid(color="#dde2ea")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return png_bytes(figure, {})
