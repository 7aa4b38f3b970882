"""The arithmetic around a net in ONNX's text form: pixels before it, boxes after it. `onnx_detector` puts it together.

Each text is in the float types of the NumPy code that it follows, so that the numbers are the same. Resizing is
arithmetic of its own, OpenCV's: ONNX's Resize has its factors in float32 and rounds sizes down. Names that no node
makes are inputs, or constants (`onnx_detector`): those in _d, _f and _i are float64, float32 and int64. Between %( )
and { } stands what differs from one use to the next.
"""

# fast_rcnn.bbox_transform, and the boxes clipped to the image: boxes (n, 4) moved by deltas (n, K, 4) to decoded
# (n, K, 4); size: height and width, float64
_DECODED = """
  x1, y1, x2, y2 = Split <axis = 1, num_outputs = 4> ({boxes})
  w0 = Sub (x2, x1)
  w = Add (w0, one_f)
  h0 = Sub (y2, y1)
  h = Add (h0, one_f)
  half_w = Mul (half_f, w)
  half_h = Mul (half_f, h)
  x = Add (x1, half_w)
  y = Add (y1, half_h)
  dx3, dy3, dw3, dh3 = Split <axis = 2, num_outputs = 4> ({deltas})
  dx = Squeeze (dx3, two_i)
  dy = Squeeze (dy3, two_i)
  dw = Squeeze (dw3, two_i)
  dh = Squeeze (dh3, two_i)
  grown_w = Exp (dw)
  grown_h = Exp (dh)
  new_w = Mul (grown_w, w)
  new_h = Mul (grown_h, h)
  way_x = Mul (dx, w)
  way_y = Mul (dy, h)
  new_x = Add (way_x, x)
  new_y = Add (way_y, y)
  reach_x = Mul (half_f, new_w)
  reach_y = Mul (half_f, new_h)
  left_2 = Sub (new_x, reach_x)
  top_2 = Sub (new_y, reach_y)
  right_2 = Add (new_x, reach_x)
  bottom_2 = Add (new_y, reach_y)
  left_3 = Unsqueeze (left_2, two_i)
  top_3 = Unsqueeze (top_2, two_i)
  right_3 = Unsqueeze (right_2, two_i)
  bottom_3 = Unsqueeze (bottom_2, two_i)
  stacked = Concat <axis = 2> (left_3, top_3, right_3, bottom_3)
  far_d = Sub ({size}, one_d)
  far = Cast <to = 1> (far_d)
  far_y, far_x = Split <num_outputs = 2> (far)
  limit = Concat <axis = 0> (far_x, far_y, far_x, far_y)
  not_below = Max (stacked, zero_f)
  decoded = Min (not_below, limit)
"""

# The areas in which boxes meet, and of their unions: {p}shared and {p}union (n, m). Corners {p}x1 ... are (n, 1), those
# of the other boxes, {p}x1_t ..., (1, m); their last pixels belong to them. t: f for float32, d for float64
_OVERLAP = """
    {p}right = Min ({p}x2, {p}x2_t)
    {p}left = Max ({p}x1, {p}x1_t)
    {p}bottom = Min ({p}y2, {p}y2_t)
    {p}top = Max ({p}y1, {p}y1_t)
    {p}iw0 = Sub ({p}right, {p}left)
    {p}iw1 = Add ({p}iw0, one_{t})
    {p}iw = Max ({p}iw1, zero_{t})
    {p}ih0 = Sub ({p}bottom, {p}top)
    {p}ih1 = Add ({p}ih0, one_{t})
    {p}ih = Max ({p}ih1, zero_{t})
    {p}shared = Mul ({p}iw, {p}ih)
    {p}w0 = Sub ({p}x2, {p}x1)
    {p}w = Add ({p}w0, one_{t})
    {p}h0 = Sub ({p}y2, {p}y1)
    {p}h = Add ({p}h0, one_{t})
    {p}area = Mul ({p}w, {p}h)
    {p}w0_t = Sub ({p}x2_t, {p}x1_t)
    {p}w_t = Add ({p}w0_t, one_{t})
    {p}h0_t = Sub ({p}y2_t, {p}y1_t)
    {p}h_t = Add ({p}h0_t, one_{t})
    {p}area_t = Mul ({p}w_t, {p}h_t)
    {p}both = Add ({p}area, {p}area_t)
    {p}union = Sub ({p}both, {p}shared)
"""

BEFORE = """
around (uint8[H, W, 3] image%(more_in)s) => (float[1, 3, h, w] data%(more_out)s) {
  size_int = Shape <start = 0, end = 2> (image)
  size = Cast <to = 11> (size_int)
  short = ReduceMin <keepdims = 1> (size)
  long = ReduceMax <keepdims = 1> (size)
  by_short = Div (target_size, short)
  product = Mul (by_short, long)
  longest = Round (product)
  too_long = Greater (longest, max_size)
  by_long = Div (max_size, long)
  scale = Where (too_long, by_long, by_short)
  step = Div (one_d, scale)
  new_size_d = Mul (size, scale)
  new_size_r = Round (new_size_d)
  new_size = Cast <to = 7> (new_size_r)
  pixels = Cast <to = 11> (image)
  centred_d = Sub (pixels, pixel_means)
  centred = Cast <to = 1> (centred_d)
  height, width = Split <num_outputs = 2> (size_int)
  new_height, new_width = Split <num_outputs = 2> (new_size)
  %(across)s
  across_0 = Gather <axis = 1> (centred, across_low)
  across_1 = Gather <axis = 1> (centred, across_high)
  across_a = Mul (across_0, across_rest)
  across_b = Mul (across_1, across_part)
  wide = Add (across_a, across_b)
  %(down)s
  down_0 = Gather <axis = 0> (wide, down_low)
  down_1 = Gather <axis = 0> (wide, down_high)
  down_rest_3 = Unsqueeze (down_rest, one_i)
  down_part_3 = Unsqueeze (down_part, one_i)
  down_a = Mul (down_0, down_rest_3)
  down_b = Mul (down_1, down_part_3)
  resized = Add (down_a, down_b)
  planes = Transpose <perm = [2, 0, 1]> (resized)
  data = Unsqueeze (planes, zero_i)
  %(rois)s
}
"""

PROJECTED = """
  boxes_d = Cast <to = 11> (proposals)
  scaled_d = Mul (boxes_d, scale)
  scaled = Cast <to = 1> (scaled_d)
  all_rois = Pad (scaled, pad_left)
"""

# What rpn.proposals.propose does; NMS by NonMaxSuppression, whose boxes are measured from corner to corner
RPN = (
    """
around (float[1, A2, h, w] probs, float[1, A4, h, w] deltas, double[2] new_size_r, double[1] scale)
    => (float[r, 5] rois, float[r, 4] some_boxes, int64[r] inverse) {
  objects = Slice (probs, anchor_count, anchor_count_2, one_i)
  objects_by_cell = Transpose <perm = [0, 2, 3, 1]> (objects)
  all_probs = Reshape (objects_by_cell, flat)
  deltas_by_cell = Transpose <perm = [0, 2, 3, 1]> (deltas)
  all_deltas = Reshape (deltas_by_cell, rows_of_4)
  map_height_1 = Shape <start = 2, end = 3> (probs)
  map_width_1 = Shape <start = 3, end = 4> (probs)
  map_height = Squeeze (map_height_1)
  map_width = Squeeze (map_width_1)
  rows_n = Range (zero, map_height, one)
  columns_n = Range (zero, map_width, one)
  rows_p = Mul (rows_n, stride)
  columns_p = Mul (columns_n, stride)
  rows_4 = Reshape (rows_p, down_the_map)
  columns_4 = Reshape (columns_p, across_the_map)
  no_rows = Mul (rows_4, zero)
  no_columns = Mul (columns_4, zero)
  down = Add (rows_4, no_columns)
  across = Add (columns_4, no_rows)
  shifts_i = Concat <axis = 3> (across, down, across, down)
  shifts = Cast <to = 11> (shifts_i)
  grid_4 = Add (shifts, anchors)
  grid_d = Reshape (grid_4, rows_of_4)
  grid = Cast <to = 1> (grid_d)
  deltas_3 = Unsqueeze (all_deltas, one_i)
"""
    + _DECODED.format(boxes='grid', deltas='deltas_3', size='new_size_r')
    + """
  moved = Squeeze (decoded, one_i)
  low, high = Split <axis = 1, num_outputs = 2> (moved)
  sides_0 = Sub (high, low)
  sides = Add (sides_0, one_f)
  shortest = ReduceMin <keepdims = 0> (sides, one_i)
  scale_f = Cast <to = 1> (scale)
  least = Mul (rpn_min_size, scale_f)
  is_large = GreaterOrEqual (shortest, least)
  large_places = NonZero (is_large)
  large = Squeeze (large_places, zero_i)
  large_probs = Gather (all_probs, large)
  large_boxes = Gather (moved, large)
  large_count = Shape (large_probs)
  before_count = Min (large_count, pre_nms)
  best_probs, best = TopK <axis = 0> (large_probs, before_count)
  best_boxes = Gather (large_boxes, best)
  with_last_pixel = Add (best_boxes, last_pixel)
  as_batch = Unsqueeze (with_last_pixel, zero_i)
  before_n = Squeeze (before_count)
  ranks_i = Range (zero, before_n, one)
  ranks_f = Cast <to = 1> (ranks_i)
  falling = Neg (ranks_f)
  as_scores = Unsqueeze (falling, first_two)
  kept_3 = NonMaxSuppression (as_batch, as_scores, post_nms, rpn_limit)
  kept_1 = Slice (kept_3, two_i, three_i, one_i)
  kept = Reshape (kept_1, flat)
  proposed = Gather (best_boxes, kept)
  rois = Pad (proposed, pad_left)
  some_boxes = Div (proposed, scale_f)
  proposed_count_1 = Shape <start = 0, end = 1> (proposed)
  proposed_count = Squeeze (proposed_count_1)
  inverse = Range (zero, proposed_count, one)
}
"""
)

# The two pixels that each new pixel lies between, and the part of the second (cv::resize, INTER_LINEAR).
ALONG = """
  {0}_count = Squeeze (new_{1})
  {0}_steps = Range (zero, {0}_count, one)
  {0}_steps_d = Cast <to = 11> ({0}_steps)
  {0}_middle = Add ({0}_steps_d, half_d)
  {0}_source_m = Mul ({0}_middle, step)
  {0}_source_d = Sub ({0}_source_m, half_d)
  {0}_source = Cast <to = 1> ({0}_source_d)
  {0}_floor = Floor ({0}_source)
  {0}_fraction = Sub ({0}_source, {0}_floor)
  {0}_floor_i = Cast <to = 7> ({0}_floor)
  {0}_last = Sub ({1}, one_i)
  {0}_before = Less ({0}_floor_i, zero)
  {0}_behind = GreaterOrEqual ({0}_floor_i, {0}_last)
  {0}_outside = Or ({0}_before, {0}_behind)
  {0}_part_1 = Where ({0}_outside, zero_f, {0}_fraction)
  {0}_part = Unsqueeze ({0}_part_1, one_i)
  {0}_rest = Sub (one_f, {0}_part)
  {0}_low_0 = Max ({0}_floor_i, zero)
  {0}_low = Min ({0}_low_0, {0}_last)
  {0}_next = Add ({0}_low, one)
  {0}_high = Min ({0}_next, {0}_last)
"""

# Proposals on the same cells of the feature map: one of them stands for all.
DEDUP = """
  cells_f = Mul (all_rois, dedup)
  cells_r = Round (cells_f)
  cells = Cast <to = 11> (cells_r)
  weighed = Mul (cells, cell_weights)
  hash = ReduceSum <keepdims = 0> (weighed, one_i)
  distinct, first, inverse = Unique <sorted = 1> (hash)
  rois = Gather (all_rois, first)
  some_boxes = Gather (proposals, first)
"""
NO_DEDUP = """
  rois = Identity (all_rois)
  some_boxes = Identity (proposals)
  rows = Shape <start = 0, end = 1> (proposals)
  row_count = Squeeze (rows)
  inverse = Range (zero, row_count, one)
"""

AFTER = (
    """
around (float[r, K] cls_prob, float[r, K4] bbox_pred, float[r, 4] some_boxes, int64[R] inverse, double[2] size)
    => (float[D, 4] boxes, float[D] scores, int64[D] classes) {
  %(moved)s
  by_class = Reshape (cls_prob, shape_scores)
  all_scores = Gather (by_class, inverse)
  all_boxes = Gather (moved, inverse)
  found_boxes, found_scores, found_classes = Loop <body = one_class (int64 i, bool go, float[a, 4] b, float[a] s,
        int64[a] c) => (bool go_on, float[d, 4] b_out, float[d] s_out, int64[d] c_out) {
    go_on = Identity (go)
    k = Add (i, one)
    column = Gather <axis = 1> (all_scores, k)
    boxes_k = Gather <axis = 1> (all_boxes, k)
    above = Greater (column, thresh)
    places = NonZero (above)
    rows = Squeeze (places, zero_i)
    candidates = Gather (column, rows)
    corners = Gather (boxes_k, rows)
    count = Shape (candidates)
    best, order = TopK <axis = 0> (candidates, count)
    sorted = Gather (corners, order)
    x1, y1, x2, y2 = Split <axis = 1, num_outputs = 4> (sorted)
    turned = Transpose (sorted)
    x1_t, y1_t, x2_t, y2_t = Split <axis = 0, num_outputs = 4> (turned)
"""
    + _OVERLAP.format(p='', t='f')
    + """
    iou = Div (shared, union)
    reached = GreaterOrEqual (iou, nms_limit)
    n = Squeeze (count)
    ranks = Range (zero, n, one)
    ranks_t = Unsqueeze (ranks, one_i)
    later = Less (ranks_t, ranks)
    hit_b = And (reached, later)
    hit = Cast <to = 1> (hit_b)
    row_shape = Concat <axis = 0> (one_i, count)
    all_kept = Expand (one_f, row_shape)
    kept = Loop <body = settle (int64 j, bool unsettled, float[e, m] keep) => (bool again, float[f, p] keep_out) {
      hits = MatMul (keep, hit)
      alone = Equal (hits, zero_f)
      keep_out = Cast <to = 1> (alone)
      change = Sub (keep_out, keep)
      changes = Abs (change)
      total = ReduceSum <keepdims = 0> (changes)
      again = Greater (total, zero_f)
    }> (endless, yes, all_kept)
    kept_row = Squeeze (kept, zero_i)
    kept_places = NonZero (kept_row)
    chosen = Squeeze (kept_places, zero_i)
    b_k = Gather (sorted, chosen)
    s_k = Gather (best, chosen)
    chosen_shape = Shape (chosen)
    c_k = Expand (k, chosen_shape)
    %(voted)s
    b_out = Concat <axis = 0> (b, b_v)
    s_out = Concat <axis = 0> (s, s_k)
    c_out = Concat <axis = 0> (c, c_k)
  }> (num_objects, yes, no_boxes, no_scores, no_classes)
  %(most)s
}
"""
)

# What fast_rcnn.box_voting does, in its types: IoU in float64, weights in float32
VOTED = (
    """
    kept_d = Cast <to = 11> (b_k)
    voters_d = Cast <to = 11> (sorted)
    v_x1, v_y1, v_x2, v_y2 = Split <axis = 1, num_outputs = 4> (kept_d)
    v_turned = Transpose (voters_d)
    v_x1_t, v_y1_t, v_x2_t, v_y2_t = Split <axis = 0, num_outputs = 4> (v_turned)
"""
    + _OVERLAP.format(p='v_', t='d')
    + """
    v_meet = Greater (v_shared, zero_d)
    v_divisor = Where (v_meet, v_union, one_d)
    v_iou = Div (v_shared, v_divisor)
    v_agree_b = GreaterOrEqual (v_iou, vote_limit)
    v_agree = Cast <to = 1> (v_agree_b)
    v_score = Max (best, zero_f)
    v_weights = Mul (v_agree, v_score)
    v_total = ReduceSum <keepdims = 1> (v_weights, one_i)
    v_weights_d = Cast <to = 11> (v_weights)
    v_sums = MatMul (v_weights_d, voters_d)
    v_some = Greater (v_total, zero_f)
    v_by = Where (v_some, v_total, one_f)
    v_by_d = Cast <to = 11> (v_by)
    v_means_d = Div (v_sums, v_by_d)
    v_means = Cast <to = 1> (v_means_d)
    b_v = Where (v_some, v_means, b_k)
"""
)
UNVOTED = """
    b_v = Identity (b_k)
"""

MOVED = (
    """
  deltas = Reshape (bbox_pred, shape_boxes)
"""
    + _DECODED.format(boxes='some_boxes', deltas='deltas', size='size')
    + """
  moved = Identity (decoded)
"""
)
UNMOVED = """
  each = Unsqueeze (some_boxes, one_i)
  repeats = Concat <axis = 0> (one_i, num_classes, one_i)
  moved = Tile (each, repeats)
"""

# The best so many of an image, and those that score as much as the last of them.
MOST = """
  with_lowest = Concat <axis = 0> (found_scores, lowest)
  there = Shape (with_lowest)
  wanted = Min (there, most)
  strongest, strongest_places = TopK <axis = 0> (with_lowest, wanted)
  weakest = ReduceMin <keepdims = 1> (strongest)
  strong = GreaterOrEqual (found_scores, weakest)
  strong_places = NonZero (strong)
  strong_rows = Squeeze (strong_places, zero_i)
  boxes = Gather (found_boxes, strong_rows)
  scores = Gather (found_scores, strong_rows)
  classes = Gather (found_classes, strong_rows)
"""
ALL = """
  boxes = Identity (found_boxes)
  scores = Identity (found_scores)
  classes = Identity (found_classes)
"""
