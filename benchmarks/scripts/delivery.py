"""Do the computing of `cd4ml run` as one bare script, delivery.py PROBLEM FOLDER: no cache, report, snapshot or MLflow.

It calls the same functions as the step notebooks on the same parameters, keeps everything in memory, and writes the
model, the figures and one JSON file of results into the folder.
"""

import json
import sys
from pathlib import Path

from cd4ml.base.settings import load_settings
from cd4ml.data.catalog import load_dataset
from cd4ml.data.contract import check_contract
from cd4ml.data.profile import profile_frame
from cd4ml.delivery.steps import resolve_problem_params
from cd4ml.model.comparison import MIN_SLICE, select_rows, select_slices
from cd4ml.model.error_figures import draw_errors
from cd4ml.model.evaluation import Resampling, Scored, evaluate_predictions, predict_baseline
from cd4ml.model.figures import draw_forest, draw_metrics
from cd4ml.model.gate import judge_candidate, parse_rules
from cd4ml.model.metrics import METRICS
from cd4ml.model.problem import find_problem
from cd4ml.model.split import check_split
from cd4ml.model.training import dump_model, predict_rows, train_model

out, settings = Path(sys.argv[2]), load_settings(Path(__file__).resolve().parents[2])
task = find_problem(sys.argv[1], settings.package)
params = resolve_problem_params(settings, task)
options = {step: task.params.model_fields[step].annotation(**params.steps[step]) for step in ("prepare", "train")}

# prepare
contracts = task.contracts()
frames = {one.name: load_dataset(one, settings.root) for one in task.datasets}
for name, frame in frames.items():
    if name in contracts:
        check_contract(frame, contracts[name], name)
rows = check_contract(task.prepare_rows(frames, options["prepare"]), contracts["rows"], "rows")
split = check_split(task.split_rows(rows, options["prepare"]))
profile = profile_frame(split.train, list(task.features))

# train
model = train_model(task, split.train, options["train"])
(out / "model.skops").write_bytes(dump_model(model))

# evaluate
asked, holdout = params.steps["evaluate"], split.holdout
y, unit = holdout[task.target], holdout[task.unit] if task.unit else None
gate = parse_rules(asked["rules"], task.task)
resampling = Resampling(asked["confidence"], asked["resamples"], asked["seed"])
names = tuple(dict.fromkeys([*task.metrics, *(rule.metric for rule in gate)]))
scored = Scored(y, predict_rows(model, holdout, task.task), task.task, unit)
metrics = evaluate_predictions(scored, names, resampling)
decision = judge_candidate(gate, metrics, None)
dummy = Scored(y, predict_baseline(split.train[task.target], holdout.index, task.task), task.task, unit)
plots = [draw_metrics(metrics, None, evaluate_predictions(dummy, names, resampling)), *draw_errors(scored, None)]
groups = {f"{column} {value}": chosen for column in task.slices
          for value, chosen in select_slices(holdout[column]).items()}
slices = {name: evaluate_predictions(select_rows(scored, chosen), names[:1], resampling)[names[0]]
          for name, chosen in groups.items() if len(chosen) >= MIN_SLICE}
if slices:
    plots.append(draw_forest(slices, "Is it as good everywhere?", METRICS[names[0]].label, metrics[names[0]].value))
for number, plot in enumerate(plots):
    (out / f"{number}.svg").write_bytes(plot.to_bytes("svg"))
found = {"metrics": {name: one.to_dict() for name, one in metrics.items()}, "decision": decision.to_dict(),
         "profile": profile.to_dict()}
(out / "results.json").write_text(json.dumps(found))
