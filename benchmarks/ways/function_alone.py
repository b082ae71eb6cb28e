import torch
from digits import EPOCHS, images, loss_of, network, train_one_epoch


def train(config):
    training, validation = images()
    model = network(config["width"])
    optimizer = torch.optim.Adam(model.parameters(), config["lr"])
    for _ in range(EPOCHS):
        train_one_epoch(model, optimizer, training)
        loss = loss_of(model, validation)
        print(loss)


train({"lr": 1e-3, "width": 8})
