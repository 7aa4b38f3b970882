"""MultiBoxLoss and DetectionOutput one box at a time, after what SSD's Caffe does (weiliu89/caffe, branch ssd:
bbox_util.cpp, multibox_loss_layer.cpp, detection_output_layer.cpp). Options have the names of the prototxt's fields."""

import numpy as np

f = np.float32
TINY = np.finfo(f).tiny


def size(box):
    return f(0) if box[2] < box[0] or box[3] < box[1] else (box[2] - box[0]) * (box[3] - box[1])


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = width * height if width > 0 and height > 0 else f(0)
    return common / (size(a) + size(b) - common) if common > 0 else f(0)


def encoded(box, prior, variance, code):
    width, height = prior[2] - prior[0], prior[3] - prior[1]
    if code == 'CENTER_SIZE':
        x, y = ((box[i] + box[i + 2]) / 2 - (prior[i] + prior[i + 2]) / 2 for i in (0, 1))
        logs = np.log((box[2] - box[0]) / width), np.log((box[3] - box[1]) / height)
        return np.array([x / width, y / height, *logs], f) / variance
    scale = [width, height] * 2 if code == 'CORNER_SIZE' else [1] * 4
    return ((box - prior) / np.array(scale, f) / variance).astype(f)


def decoded(codes, prior, variance, code):
    width, height = prior[2] - prior[0], prior[3] - prior[1]
    codes = codes * variance
    if code == 'CENTER_SIZE':
        x, y = codes[0] * width + (prior[0] + prior[2]) / 2, codes[1] * height + (prior[1] + prior[3]) / 2
        w, h = np.exp(codes[2]) * width, np.exp(codes[3]) * height
        return np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2], f)
    scale = [width, height] * 2 if code == 'CORNER_SIZE' else [1] * 4
    return (prior + codes * np.array(scale, f)).astype(f)


def matched(boxes, objects, o):
    """MatchBBox: the object of each box, -1 for none, -2 where it may have none; and its overlap."""
    shown, most, pairs = [-1] * len(boxes), [f(0)] * len(boxes), {}
    for i, box in enumerate(boxes):
        if o['ignore_cross_boundary_bbox'] and any(side < 0 or side > 1 for side in box):
            shown[i] = -2
            continue
        for j, obj in enumerate(objects):
            if overlap(box, obj) > 1e-6:
                pairs[i, j] = overlap(box, obj)
                most[i] = max(most[i], pairs[i, j])
    left = set(range(len(objects)))
    while left:
        open_pairs = [pair for pair in sorted(pairs) if shown[pair[0]] == -1 and pair[1] in left]
        if not open_pairs:
            break
        i, j = max(open_pairs, key=pairs.get)
        shown[i] = j
        left.remove(j)
    if o['match_type'] == 'PER_PREDICTION':
        for i in {i for i, _ in pairs if shown[i] == -1}:
            near = [j for j in range(len(objects)) if pairs.get((i, j), 0) >= f(o['overlap_threshold'])]
            shown[i] = max(near, key=lambda j, i=i: pairs[i, j], default=-1)
    return shown, most


def class_loss(scores, label, o):
    if o['conf_loss_type'] == 'SOFTMAX':
        exponents = np.exp(scores - scores.max())
        return -np.log(max(exponents[label] / exponents.sum(), TINY))
    target = np.arange(len(scores)) == label
    return np.sum(np.maximum(scores, 0) - scores * target + np.log1p(np.exp(-np.abs(scores))))


def box_loss(difference, o):
    each = np.abs(difference)
    quadratic = (o['loc_loss_type'] == 'L2') | (each < 1)
    return np.where(quadratic, each**2 / 2, each - 0.5).sum()


def apart(boxes, losses, threshold, top_k):
    """ApplyNMS: indices of what is kept, hardest first; boxes of hardly any size take a place among the top_k."""
    order = sorted(range(len(boxes)), key=lambda i: -losses[i])
    order, kept = order if top_k < 0 else order[:top_k], []
    for i in order:
        if size(boxes[i]) >= 1e-5 and all(overlap(boxes[i], boxes[k]) <= f(threshold) for k in kept):
            kept.append(i)
    return kept


def multibox(codes, scores, priors, objects, o):
    """(loss, matches, negatives), the latter as sets of (image, prior).

    codes: (N, P, 1 or classes, 4); scores: (N, P, classes); priors: (2, P, 4); objects: (G, 8).
    """
    images, count = scores.shape[:2]
    boxes, variances, code = *priors, o['code_type']
    inner = np.ones_like(variances) if o['encode_variance_in_target'] else variances
    outer = variances if o['encode_variance_in_target'] else np.ones_like(variances)
    matches, negatives, box_losses, class_losses = set(), set(), 0.0, 0.0
    for n in range(images):
        its = [row for row in objects if row[0] == n and (o['use_difficult_gt'] or row[7] == 0)]
        predicted = [decoded(codes[n, p, 0], boxes[p], inner[p], code) for p in range(count)]
        seen = boxes if o['use_prior_for_matching'] else predicted
        shown, most = matched(seen, [row[3:7] for row in its], o)
        label = [int(its[j][1]) if j >= 0 else o['background_label_id'] for j in shown]

        def off(p, n=n, its=its, seen=seen, shown=shown, label=label):
            its_codes = codes[n, p, 0 if o['share_location'] else label[p]]
            difference = its_codes - encoded(its[shown[p]][3:7], boxes[p], inner[p], code)
            outside = (seen[p] < 0) | (seen[p] > 1)
            return np.where(outside & o['bp_inside'], 0, difference) / outer[p]

        positive = [p for p in range(count) if shown[p] >= 0]
        rest = [p for p in range(count) if shown[p] < 0] if o['mining_type'] == 'NONE' else []
        if o['mining_type'] != 'NONE' and its:
            losses = np.array([class_loss(scores[n, p], label[p], o) for p in range(count)], f)
            if o['mining_type'] == 'HARD_EXAMPLE':
                losses += [f(box_loss(off(p), o)) if p in positive else f(0) for p in range(count)]
                eligible, take = list(range(count)), o['sample_size']
            else:
                eligible = [p for p in range(count) if shown[p] == -1 and most[p] < f(o['neg_overlap'])]
                take = int(f(len(positive)) * f(o['neg_pos_ratio']))
            nms = boxes if o['use_prior_for_nms'] else predicted
            if o['nms_threshold'] > 0:
                kept = apart([nms[p] for p in eligible], losses[eligible], o['nms_threshold'], o['top_k'])
                hard = {eligible[i] for i in kept[:take]}
            else:
                hard = set(sorted(eligible, key=lambda p: -losses[p])[:take])
            if o['mining_type'] == 'HARD_EXAMPLE':
                positive = [p for p in positive if p in hard]
            rest = [p for p in range(count) if shown[p] == -1 and p in hard]
        matches |= {(n, p) for p in positive}
        negatives |= {(n, p) for p in rest}
        box_losses += sum(box_loss(off(p), o) for p in positive)
        class_losses += sum(class_loss(scores[n, p], label[p], o) for p in positive)
        class_losses += sum(class_loss(scores[n, p], o['background_label_id'], o) for p in rest)
    divisor = {'VALID': len(matches), 'FULL': images * count, 'BATCH_SIZE': images, 'NONE': 1}[o['normalization']]
    return (o['loc_weight'] * box_losses + class_losses) / max(divisor, 1), matches, negatives


def detections(codes, scores, priors, o):
    """Rows (D, 7) of DetectionOutput; arguments as of `multibox`."""
    images, count, classes = scores.shape
    boxes, variances = priors
    variances = np.ones_like(variances) if o['variance_encoded_in_target'] else variances
    rows = []
    for n in range(images):
        found = []
        for c in range(classes):
            if c == o['background_label_id']:
                continue
            column = 0 if o['share_location'] else c
            its = [decoded(codes[n, p, column], boxes[p], variances[p], o['code_type']) for p in range(count)]
            order = [p for p in range(count) if scores[n, p, c] > f(o['confidence_threshold'])]
            order.sort(key=lambda p, n=n, c=c: -scores[n, p, c])
            kept, threshold = [], f(o['nms_threshold'])
            for p in order if o['top_k'] < 0 else order[: o['top_k']]:
                if all(overlap(its[p], its[k]) <= threshold for k in kept):
                    kept.append(p)
                    threshold *= f(o['eta']) if threshold > 0.5 else f(1)
            found += [[n, c, scores[n, p, c], *its[p]] for p in kept]
        if 0 <= o['keep_top_k'] < len(found):
            found = sorted(found, key=lambda row: -row[2])[: o['keep_top_k']]
            found.sort(key=lambda row: row[1])
        rows += found
    return np.array(rows or [[n] + [-1] * 6 for n in range(images)], f)
