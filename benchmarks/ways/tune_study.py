import torch
from digits import EPOCHS, images, loss_of, network, train_one_epoch
from ray import tune


def train(config):
    training, validation = images()
    model = network(config["width"])
    optimizer = torch.optim.Adam(model.parameters(), config["lr"])
    for _ in range(EPOCHS):
        train_one_epoch(model, optimizer, training)
        loss = loss_of(model, validation)
        tune.report({"loss": loss})


tune.Tuner(
    train,
    param_space={
        "lr": tune.loguniform(1e-4, 1e-1),
        "width": tune.choice([4, 8, 16]),
    },
    tune_config=tune.TuneConfig(
        metric="loss",
        mode="min",
        num_samples=16,
    ),
).fit()
