"""The plain PyTorch script that a fit is compared with, from folder to scores: prints top-1 and seconds.

Usage: job.py DATA WEIGHTS head|finetune [SEED]      DATA/{train,val}/CLASS/*, WEIGHTS of a resnet18

Two loader workers, AdamW, one-cycle, channels last. head: 5 epochs on random-resized crops, backbone frozen and
without gradients. finetune: 1 epoch of the head, then 3 of everything, BatchNorm in evaluation mode.
Start it with the allocator settings of compare.py.
"""

import sys
import time

import torch
import torchvision
from safetensors.torch import load_file
from torchvision import transforms as T

NORM = T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TRAIN = T.Compose([T.RandomResizedCrop(224, scale=(0.35, 1)), T.RandomHorizontalFlip(), T.ToTensor(), NORM])
EVAL = T.Compose([T.Resize(256), T.CenterCrop(224), T.ToTensor(), NORM])


def loader(folder, transform, shuffle):
    data = torchvision.datasets.ImageFolder(folder, transform)
    return torch.utils.data.DataLoader(data, 32, shuffle=shuffle, num_workers=2, persistent_workers=True)


def main():
    data, weights, recipe = sys.argv[1:4]
    torch.manual_seed(int(sys.argv[4]) if len(sys.argv) > 4 else 0)
    torch.set_num_threads(2)
    started = time.time()
    train, val = loader(f"{data}/train", TRAIN, True), loader(f"{data}/val", EVAL, False)
    net = torchvision.models.resnet18()
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(weights).items()})
    net.fc = torch.nn.Linear(512, len(train.dataset.classes))
    net = net.to(memory_format=torch.channels_last).eval()
    trunk = torch.nn.Sequential(*list(net.children())[:-1], torch.nn.Flatten())

    def logits(x, whole):
        x = x.to(memory_format=torch.channels_last)
        if whole:
            return net(x)
        with torch.no_grad():
            features = trunk(x)
        return net.fc(features)

    def score():
        right = 0
        with torch.inference_mode():
            for x, y in val:
                right += (net(x.to(memory_format=torch.channels_last)).argmax(1) == y).sum().item()
        return right / len(val.dataset)

    best = 0.0
    head = {"params": list(net.fc.parameters())}
    rest = {"params": [p for n, p in net.named_parameters() if not n.startswith("fc")]}
    phases = {
        "head": [(5, [{**head, "lr": 3e-3}], False)],
        "finetune": [(1, [{**head, "lr": 3e-3}], False), (3, [{**head, "lr": 5e-5}, {**rest, "lr": 2e-5}], True)],
    }[recipe]
    for epochs, groups, whole in phases:
        optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
        steps = epochs * len(train)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [g["lr"] for g in groups], total_steps=steps)
        for _ in range(epochs):
            for x, y in train:
                optimizer.zero_grad(set_to_none=True)
                torch.nn.functional.cross_entropy(logits(x, whole), y).backward()
                optimizer.step()
                schedule.step()
            best = max(best, score())
    print(f"{best:.4f} {time.time() - started:.1f}")


if __name__ == "__main__":
    main()
