"""Describes every column of every table that the commands of this package write."""

from vgg_deploy.table_schema import Column, Table, columns

WITHOUT_LABELS = "missing without labels"

MODEL = columns(
    "text",
    model="name of the model; members of a fusion are joined by ` + `",
    runtime="what ran it: torch, onnxruntime, ...",
    precision="fp32, fp16, bf16, int8, int8-cpu, fp8, int4 or int4-cpu",
)
ROW = (
    *columns(
        "text",
        protocol="which views are averaged, see [Bench](bench.md)",
        scales="Q in pixels, joined by `+`; after `single` or `multi` where each net's S gives it",
    ),
    *columns("True or False", flips="whether mirror images are averaged too"),
)
IMAGE_SIZE = (
    *columns("whole number", height_px="height of the images", width_px="width of the images"),
    *columns("whole number", batch="images per call"),
)


def _errors(k: int) -> tuple[Column, ...]:
    return columns(
        "number",
        **{
            f"top{k}_error_pct": f"top-{k} error; {WITHOUT_LABELS}",
            f"top{k}_low_pct": "lower end of its 95 % interval (Wilson)",
            f"top{k}_high_pct": "upper end",
        },
    )


def _differences(k: int) -> tuple[Column, ...]:
    return columns(
        "number",
        **{
            f"top{k}_difference_pct": f"the model's top-{k} error minus the reference's, in "
            f"percentage points; {WITHOUT_LABELS}",
            f"top{k}_low_pct": "lower end of the exact 95 % interval of the paired difference",
            f"top{k}_high_pct": "upper end",
            f"top{k}_p": "McNemar's exact test: chance of such a split between equally good models",
        },
    )


def _paper(k: int) -> tuple[Column, ...]:
    return columns(
        "number",
        **{
            f"top{k}_paper": f"the paper's top-{k} error, per cent; missing where it has none",
            f"top{k}_measured": "the error measured here, per cent; missing where none was",
            f"top{k}_low": "lower end of its 95 % interval",
            f"top{k}_high": "upper end",
            f"top{k}_difference": "measured minus paper, percentage points",
        },
    )


ACCURACY = Table(
    "accuracy.csv",
    "One row per model or fusion, protocol and scale.",
    (
        *MODEL,
        *ROW,
        *columns(
            "whole number",
            images="images that were scored",
            classes="classes that the best one is chosen among",
            views="whole images and crops scored per image",
        ),
        *_errors(1),
        *_errors(5),
        *columns(
            "number",
            ece_pct=f"expected calibration error, 15 bins; {WITHOUT_LABELS}",
            gmacs_per_image="billions of multiply-accumulates of all views of one image: exact, "
            "convolutions only, whole images by their own size; the mean over the images",
            ms_per_image="milliseconds of all views of one image in the runtime; missing where "
            "another number of threads scored them",
        ),
    ),
)
LOCALISATION = Table(
    "localisation.csv",
    "One row per classifier, box net or all of them together, protocol and scale; then the best "
    "constant box, which looks at no image.",
    (
        *columns(
            "text",
            model="name of the classifier, which chooses the labels",
            boxes_by="name of the localiser; several are joined by ` + `",
            boxes="shared (one for all classes) or per-class",
            protocol="centre (one crop) or dense (whole images, boxes merged)",
            scales="Q in pixels, joined by `+`; those of several localisers by `|`",
        ),
        *columns("whole number", images="images with boxes that were judged"),
        *columns(
            "number",
            true_class_error_pct="images whose box of the true class is wrong",
            true_class_low_pct="lower end of its 95 % interval (Wilson)",
            true_class_high_pct="upper end",
            mean_iou_pct="mean intersection over union of that box with the nearest true one",
            top1_error_pct="images whose best label or its box is wrong",
            top1_low_pct="lower end of its 95 % interval (Wilson)",
            top1_high_pct="upper end",
            top5_error_pct="images without a right label with a right box among the best five",
            top5_low_pct="lower end of its 95 % interval (Wilson)",
            top5_high_pct="upper end",
            label_top1_error_pct="images whose best label is wrong, whatever the box",
            label_top5_error_pct="images without the right label among the best five",
        ),
    ),
)
LOCALISATION_PAPER = Table(
    "localisation_paper.csv",
    "Tables 8 to 10 of the paper, and below its rows those measured here.",
    (
        *columns(
            "text",
            net="the net, or of a measured row the localiser and the classifier",
            S="S of a printed row",
            Q="Q in pixels",
            boxes="shared or per-class",
            tuned="of a printed row: the layers that were trained further",
        ),
        *columns(
            "number",
            error_paper="the paper's error on validation images, per cent",
            error_test_paper="the paper's error on test images, per cent",
            error_measured="the error measured here: of the true class's box in Table 8, top-5 in "
            "the others",
            error_low="lower end of its 95 % interval",
            error_high="upper end",
        ),
        *columns("whole number", table="number of the table"),
    ),
)
PREDICTIONS = Table(
    "predictions.csv",
    "One row per row of accuracy.csv and image.",
    (
        *MODEL,
        *ROW,
        *columns(
            "text",
            image="name of the image in the data set",
            label=f"id of its true class, or of the first right one; {WITHOUT_LABELS}",
            best="id of the class with the largest posterior",
        ),
        *columns("number", posterior="that posterior, 0 to 1"),
        *columns(
            "whole number",
            rank=f"rank of the true class, 1 for the best; of several right ones the best "
            f"rank; {WITHOUT_LABELS}",
        ),
    ),
)
COMPARISONS = Table(
    "comparisons.csv",
    "One row per row of accuracy.csv that the first model has too: the model beside the first.",
    (
        *columns("text", reference="name of the first model"),
        *MODEL,
        *ROW,
        *columns("whole number", images="images that both scored"),
        *columns("number", agreement_pct="images with the same best class"),
        *columns(
            "whole number",
            only_reference_right=f"images that only the reference has right; {WITHOUT_LABELS}",
            only_model_right=f"images that only the model has right; {WITHOUT_LABELS}",
        ),
        *_differences(1),
        *_differences(5),
        *columns(
            "number",
            largest_posterior_difference="of any class on any image, 0 to 1; missing between nets "
            "of different classes",
            mean_total_variation="mean over the images of half the sum of absolute differences of "
            "posteriors, 0 to 1; missing as before",
        ),
    ),
)
DIFFERENCES = Table(
    "differences.csv",
    "One row per image on which a model and the first one have different best classes, at all "
    "scales together.",
    (
        *columns("text", reference="name of the first model", model="name of the model"),
        *ROW,
        *columns(
            "text",
            image="name of the image in the data set",
            label=f"id of its true class; {WITHOUT_LABELS}",
            reference_best="id of the reference's best class",
        ),
        *columns("number", reference_posterior="its posterior, 0 to 1"),
        *columns("text", model_best="id of the model's best class"),
        *columns("number", model_posterior="its posterior, 0 to 1"),
    ),
)
PER_CLASS = Table(
    "per_class.csv",
    "One row per class of the data and model, at all scales together; the worst first.",
    (
        *MODEL,
        *ROW[:2],
        *columns("text", **{"class": "id of the class", "name": "what people call it"}),
        *columns("whole number", images="images of the class"),
        *columns(
            "number",
            top1_accuracy_pct="share of them whose best class is right",
            top5_accuracy_pct="share of them with the class among the best five",
        ),
    ),
)
CONFUSIONS = Table(
    "confusions.csv",
    "One row per pair of true class and wrong best class; the most frequent first.",
    (
        *MODEL,
        *ROW[:2],
        *columns(
            "text",
            **{
                "class": "id of the true class",
                "taken_for": "id of the best class",
                "name": "name of the true class",
                "taken_for_name": "name of the best class",
            },
        ),
        *columns("whole number", images="images of this pair"),
        *columns("number", share_pct="share of the true class's images"),
    ),
)
PAPER_TABLES = Table(
    "paper_tables.csv",
    "One row per row of the paper's Tables 3 to 7, and per measured row that the paper lacks.",
    (
        *columns(
            "text",
            net="net or nets, as the paper names them",
            S="shorter side in training, pixels; `[256;512]` is a range",
            not_as_printed="what differs from the paper's net: crop, S or width",
            Q="shorter sides in testing, pixels; empty where nothing was measured",
            method="dense, multi-crop, or both",
            model="name of the measured model",
            runtime="its runtime and precision",
        ),
        *_paper(1),
        *_paper(5),
        *columns("number", top5_test_paper="the paper's top-5 error on the test images, per cent"),
        *columns("whole number", table="number of the paper's table"),
    ),
)
SHAPES = Table(
    "shapes.csv",
    "One row per model and input shape while the images were scored.",
    (
        *MODEL,
        *columns("whole number", batch="images per call"),
        *columns("whole number", height_px="height of the images", width_px="width of the images"),
        *columns("number", first_ms="the first call; missing where the shape was seen before"),
        *columns("whole number", warm_calls="calls after it"),
        *columns(
            "number",
            warm_median_ms="their median; missing without one",
            warm_sd_ms="their standard deviation; missing for fewer than two",
        ),
    ),
)
LATENCY = Table(
    "latency.csv",
    "One row per model, image size and batch size.",
    (
        *MODEL,
        *columns("text", device="cpu or cuda"),
        *columns("whole number", threads="CPU threads of the runtime"),
        *IMAGE_SIZE,
        *columns("number", first_ms="the first call; missing where the shape was seen before"),
        *columns("whole number", runs="calls counted, without the first and the warm-up"),
        *columns(
            "number",
            seconds="that they took",
            median_ms="median call, from uint8 images to scores in host memory",
            median_low_ms="lower end of its interval, 95 % or more; missing for fewer than 6 calls",
            median_high_ms="upper end",
            median_interval_pct="width of the interval in per cent of the median",
        ),
        *columns("True or False", steady="whether the times were steady"),
        *columns("text", unsteady="why they were not"),
        *columns(
            "number",
            drift_pct="median of the second half of the calls against the first half's",
            dependence="consecutive calls that are worth one independent call",
            p90_ms="90th percentile; missing for fewer than 50 calls",
            p99_ms="99th percentile; missing for fewer than 500 calls",
            spread_pct="interquartile range in per cent of the median",
            images_per_s="images per second at the median",
            gmacs="billions of multiply-accumulates of the batch, exact",
            gflop_per_s="billions of floating-point operations per second, two per "
            "multiply-accumulate",
            joules_per_image="energy of the calls by the machine's own counter, with all else that "
            "it did; missing where there is none",
        ),
        *columns("text", joules_of="what the counter counts: CPU packages, or GPU"),
        *columns(
            "number",
            device_median_ms="median by the GPU's own clock, without copies; this and all that "
            "follow are missing on a CPU",
            device_p90_ms="90th percentile; missing for fewer than 50 calls",
            device_p99_ms="99th percentile; missing for fewer than 500 calls",
            device_images_per_s="images per second at that median",
            device_tflop_per_s="10^12 floating-point operations per second",
            roofline_pct="share of what this GPU's measured matrix peak and memory allow",
            sm_mhz="clock of the GPU's multiprocessors",
            temperature_c="of the GPU, degrees Celsius",
            power_w="drawn by the GPU",
            used_mib="memory in use on the GPU",
        ),
        *columns("text", throttled="why the GPU lowered its clock; empty where it did not"),
    ),
)
LATENCY_SAMPLES = Table(
    "latency_samples.csv",
    "One row per counted call.",
    (
        *MODEL,
        *IMAGE_SIZE,
        *columns("whole number", run="number of the call, from 0"),
        *columns("text", clock="`end to end`, or `device` for the GPU's own clock"),
        *columns("number", ms="its time"),
    ),
)
SIDE_BY_SIDE = Table(
    "side_by_side.csv",
    "One row per model but the first, image size and batch size: called in turn with the first.",
    (
        *MODEL,
        *columns("text", reference="name of the first model", device="cpu or cuda"),
        *columns("whole number", threads="CPU threads of the runtime"),
        *IMAGE_SIZE,
        *columns("whole number", rounds="rounds counted"),
        *columns(
            "number",
            median_ms="median call of the model",
            reference_median_ms="median call of the first model",
            speedup="median of the rounds' ratios: the first model's time over the model's",
            speedup_low="lower end of its 95 % interval",
            speedup_high="upper end",
            slowest_round="smallest ratio of a round",
            fastest_round="largest ratio of a round",
        ),
    ),
)
SIDE_BY_SIDE_SAMPLES = Table(
    "side_by_side_samples.csv",
    "One row per model and round.",
    (
        *MODEL,
        *IMAGE_SIZE,
        *columns("whole number", round="number of the round, from 0"),
        *columns("number", ms="time of the call"),
    ),
)
FILES = Table(
    "files.csv",
    "One row per model.",
    (
        *MODEL,
        *columns("text", version="version of the runtime"),
        *columns("number", size_mb="size of all its files, 10^6 bytes"),
        *columns(
            "text", sha256="of the content of all its files, hex", path="of the file, absolute"
        ),
    ),
)
IMAGES = Table(
    "images.csv",
    "One row per image that was scored; a later run knows the same images again by it.",
    columns("text", image="name of the image in the data set", sha256="of its bytes, hex"),
)
MEMORY = Table(
    "memory.csv",
    "One row per model and size of images, from small to large: the memory of a process that opens "
    "the file and answers images of this size and all smaller ones.",
    (
        *MODEL,
        *columns("text", device="cpu or cuda"),
        *columns("whole number", threads="CPU threads of the runtime"),
        *IMAGE_SIZE,
        *columns("whole number", processes="that were measured, one after the other"),
        *columns(
            "number",
            peak_mib="mean over the processes of the largest resident memory, with mapped files; "
            "of the whole process, with Python and libraries",
            peak_low_mib="lower end of its 95 % interval (Student's t)",
            peak_high_mib="upper end",
            highest_mib="largest of any process",
            libraries_mib="resident before the file was opened: Python and libraries",
            device_mib="more memory in use on the GPU than before; missing on a CPU",
        ),
    ),
)
AGAINST = Table(
    "against.csv",
    "One row per number that both runs have, with `--against`.",
    (
        *MODEL,
        *columns(
            "text",
            measure="top-1 error, top-5 error, answers that differ, latency, size, peak memory",
            row="protocol, scales and flips; or the size of the images; empty for files",
            unit="of old and new",
        ),
        *columns(
            "number",
            old="in the earlier run, or of its file now; errors on the images of both runs; "
            "missing for answers that differ, and for times of a file that is the same",
            new="in this run",
            difference="new minus old; of latency in per cent of the old, the median of the rounds",
            low="lower end of its 95 % interval; missing where the number is exact or the interval "
            "unknown",
            high="upper end",
        ),
        *columns("text", difference_unit="of the last three", how="what was compared"),
    ),
)
HISTORY = Table(
    "history.csv",
    "One row per run, model, row and measure, the oldest run first, by `vgg-bench history`.",
    (
        *columns(
            "text",
            when="time of the run, UTC",
            run="the short commit, with a plus sign if files were changed; or the time",
            commit="the whole commit; empty without one",
            run_id="of the run",
            folder="of its results",
            measure="top-1 error, latency, energy, size, peak memory",
        ),
        *MODEL,
        *columns(
            "text",
            row="protocol, scales and flips; or size of the images, device and threads",
            on="the images of an error, with digits of their hash; the machine of other numbers",
        ),
        *columns(
            "number",
            value="the number",
            low="lower end of its 95 % interval; missing where there is none",
            high="upper end",
        ),
        *columns("text", unit="of the three"),
    ),
)
LAYERS = Table(
    "layers.csv",
    "One row per model and part of the net: layers that its runtime computes at once.",
    (
        *MODEL,
        *columns("text", device="cpu or cuda"),
        *columns("whole number", threads="CPU threads of the runtime"),
        *IMAGE_SIZE,
        *columns(
            "text",
            layer="names of the layers, joined by ` + `; `input` (types and mean), `posterior` "
            "(average and softmax) or `layout` (values brought into another order)",
        ),
        *columns(
            "number",
            ms="median time; this and what follows from it are missing where the runtime tells no "
            "times of layers",
            ms_low="lower end of its 95 % interval; missing for fewer than 6 calls",
            ms_high="upper end",
            share_pct="share of the sum of all parts",
            gmacs="billions of multiply-accumulates of the batch, exact; 0 without a convolution",
            gflop_per_s="billions of floating-point operations per second, two per "
            "multiply-accumulate; missing without a convolution",
            added_sqnr_db="signal-to-noise ratio of what the part gives where it takes the float32 "
            "net's values, decibels; inf without any error; this and the rest are missing where "
            "the values cannot be shown",
            added_rms="root mean square of that error",
            total_sqnr_db="the same where all parts up to this one are the file's",
            total_rms="root mean square of that error",
        ),
    ),
)
LAYER_CALLS = Table(
    "layer_calls.csv",
    "One row per model: whole calls beside the sum of their parts.",
    (
        *MODEL,
        *columns("text", how="how the parts were timed; empty if they were not"),
        *columns("whole number", calls="calls that were counted"),
        *columns(
            "number",
            whole_ms="median call without timers inside, in turn with calls that have them",
            whole_low_ms="lower end of its 95 % interval; missing for fewer than 6 calls",
            whole_high_ms="upper end",
            sum_ms="sum of the parts' medians",
            overhead_ms="median time of the calls with timers that is outside of all parts: "
            "copies, starting each part, the timers",
            timers_ms="what the timers cost: median difference of calls with and without them",
            timers_low_ms="lower end of its 95 % interval",
            timers_high_ms="upper end",
        ),
        *columns("text", reference="name of the float32 net that errors are against"),
        *columns("whole number", images="images that errors were measured on"),
        *columns("text", not_measured="what was not measured and why, and what measuring changes"),
    ),
)
LAYER_SAMPLES = Table(
    "layer_samples.csv",
    "One row per model, part of the net and counted call.",
    (
        *MODEL,
        *IMAGE_SIZE,
        *columns("text", layer="as in layers.csv"),
        *columns("whole number", run="number of the call, from 0"),
        *columns("number", ms="time of the part"),
    ),
)
EXPLAINED = Table(
    "explained.csv",
    "One row per explained image and model.",
    (
        *columns(
            "text",
            image="name of the image",
            reference="name of the float32 net",
        ),
        *MODEL,
        *columns("whole number", side_px="Q, shorter side of the image in pixels"),
        *columns(
            "text",
            reference_best="id of the float32 net's best class",
            model_best="id of the model's best class",
            rival="id of the class that the margin is over: the model's best, or the float32 net's "
            "second best where both answer the same",
        ),
        *columns(
            "number",
            margin="the float32 net's mean score of its best class minus that of the rival",
            change="the model's difference of these scores minus the margin; below minus the "
            "margin the answers differ",
        ),
        *columns(
            "text",
            beyond="first part of the net whose error rounding does not explain; empty if none",
        ),
        *columns(
            "number",
            largest_of_bound="largest error of any part in units of its bound; missing where the "
            "file does not show how it rounds",
        ),
        *columns("text", most="the part that changes the margin most"),
        *columns("number", most_change="its change"),
        *columns(
            "text",
            crosses="first part behind which the margin stays lost; empty if it is not lost",
        ),
    ),
)
EXPLAINED_LAYERS = Table(
    "explained_layers.csv",
    "One row per explained image, model and part of the net.",
    (
        *columns("text", image="name of the image"),
        *MODEL,
        *columns("whole number", side_px="Q, shorter side of the image in pixels"),
        *columns("text", layer="as in layers.csv"),
        *columns(
            "number",
            of_bound="largest error of the part's values in units of the bound of its rounding; "
            "missing as above",
            change="what the part changes the margin by",
            lead="what is left of the margin if the float32 net continues behind the part",
        ),
    ),
)
LOAD_SETTING = (
    *columns("text", scenario="offline, single stream or server, as in MLPerf Inference"),
    *columns(
        "whole number",
        instances="processes, each with a session of its own",
        threads="CPU threads of each instance",
    ),
)
LOAD = Table(
    "load.csv",
    "One row per model, scenario, setting and load, of `--load`.",
    (
        *MODEL,
        *columns("text", device="cpu or cuda"),
        *LOAD_SETTING,
        *columns("whole number", height_px="height of the images", width_px="width of the images"),
        *columns("whole number", batch="most images per call"),
        *columns(
            "number",
            delay_ms="longest wait of an image for its batch to fill",
            offered_per_s="images that arrive per second; missing but for the server",
        ),
        *columns(
            "whole number",
            queries="images that arrived, or were answered before the time was over",
            dropped="images that no call had started with when the time was over; their latencies "
            "are in no percentile",
        ),
        *columns(
            "number",
            seconds="until the last answer",
            images_per_s="images answered per second, until the last answer",
            images_per_s_low="lower end of its 95 % interval; missing for fewer than 20 calls and "
            "for the server",
            images_per_s_high="upper end",
            mean_batch="images per call",
            **{
                f"p{percent}{end}_ms": meaning.format(percent)
                for percent in (50, 90, 99)
                for end, meaning in (
                    ("", "{}th percentile of the latency, from the arrival; missing offline"),
                    ("_low", "lower end of its 95 % interval"),
                    ("_high", "upper end; missing for too few queries"),
                )
            },
            longest_ms="longest latency",
        ),
        *columns(
            "whole number",
            queries_for_p99="queries that an interval of p99 needs, by how they depend on each "
            "other here",
        ),
        *columns("number", bound_ms="that p99 is to stay within; of the server"),
        *columns("text", within="whether its interval shows that it does: yes, no or not shown"),
        *columns(
            "number",
            memory_mib="memory of all instances after the measurement; pages that processes share "
            "count once",
        ),
    ),
)
LOAD_SAMPLES = Table(
    "load_samples.csv",
    "One row per query of the single stream and the server.",
    (
        *MODEL,
        *LOAD_SETTING,
        *columns("whole number", batch="most images per call"),
        *columns("number", offered_per_s="images that arrive per second; of the server"),
        *columns("whole number", query="its number, from 0"),
        *columns(
            "number",
            due_ms="when it arrived, after the start",
            started_ms="when its call began; missing if it was dropped",
            answered_ms="when its call ended; missing if it was dropped",
        ),
    ),
)
DISTANCES = Table(
    "distances.csv",
    "One row per distance file and scale: its distances of photos from 15 distortions of each, "
    "beside the first file's.",
    (
        *MODEL,
        *columns(
            "text",
            reference="name of the first file",
            distance="lpips, perceptual or gram",
        ),
        *columns(
            "whole number",
            side_px="Q, shorter side of the photos in pixels",
            photos="photos that were measured",
            pairs="pairs of a photo and a distortion of it",
        ),
        *columns(
            "number",
            spearman="rank correlation with the first file's distances; missing for the first",
            spearman_low="lower end of its 95 % interval (jackknife over photos); missing for "
            "fewer than 12 photos",
            spearman_high="upper end",
            largest_error="largest difference of any distance from the first file's; missing "
            "between other distances",
            rms_error_pct="root mean square of the differences in per cent of that of the first "
            "file's distances",
            mean_distance="mean distance",
            ms_per_pair="median of the calls' milliseconds per pair, from uint8 images to "
            "distances in host memory",
        ),
    ),
)
DISTANCE_PAIRS = Table(
    "distance_pairs.csv",
    "One row per distance file, scale and pair.",
    (
        *MODEL,
        *columns("whole number", side_px="Q, shorter side of the photo in pixels"),
        *columns(
            "text",
            photo="name of the photo in the data set",
            distortion="blur, noise, jpeg, brightness or shift",
        ),
        *columns("whole number", strength="0 (mild), 1 or 2 (strong)"),
        *columns("number", distance="of the photo from its distortion"),
    ),
)
OF_BENCH = (
    ACCURACY,
    PREDICTIONS,
    COMPARISONS,
    DIFFERENCES,
    PER_CLASS,
    CONFUSIONS,
    PAPER_TABLES,
    LOCALISATION,
    LOCALISATION_PAPER,
    SHAPES,
    LATENCY,
    LATENCY_SAMPLES,
    SIDE_BY_SIDE,
    SIDE_BY_SIDE_SAMPLES,
    FILES,
    IMAGES,
    MEMORY,
    AGAINST,
    HISTORY,
    LAYERS,
    LAYER_CALLS,
    LAYER_SAMPLES,
    EXPLAINED,
    EXPLAINED_LAYERS,
    LOAD,
    LOAD_SAMPLES,
    DISTANCES,
    DISTANCE_PAIRS,
)
OF_PREDICT = (
    Table(
        "--out FILE.csv and FILE.parquet",
        "One row per image and listed class, in the order of the images.",
        (
            *columns("text", image="path or web address; `standard input` for `-`"),
            *columns("whole number", rank="1 for the best class"),
            *columns("text", **{"class": "id of the class", "name": "what people call it"}),
            *columns("number", posterior="0 to 1"),
        ),
    ),
)
OF_BOXES = (
    Table(
        "boxes.csv",
        "One row per image and listed class: its box by the localiser, pixels of the image.",
        (
            *columns("text", image="path or web address; `standard input` for `-`"),
            *columns("whole number", rank="1 for the best class"),
            *columns("text", **{"class": "id of the class", "name": "what people call it"}),
            *columns(
                "number",
                posterior="0 to 1",
                left_px="left edge",
                top_px="upper edge",
                right_px="right edge",
                bottom_px="lower edge",
            ),
        ),
    ),
)
OF_FEATURES = (
    Table(
        "images-NNNNN.csv",
        "One row per image of a shard, in the order of the rows of its arrays.",
        columns(
            "text",
            image="name of the image in the data set",
            **{"class": "id of its class; empty without labels"},
        ),
    ),
)
