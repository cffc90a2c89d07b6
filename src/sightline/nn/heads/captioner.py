"""Captions of feature vectors by a recurrent network: Johnson, Karpathy, Fei-Fei, "DenseCap: fully convolutional
localization networks for dense captioning", CVPR 2016, section 3.1 ("RNN language model"), after Karpathy and Fei-Fei
2015.

The network reads the feature vector as the first token of a sequence, then the start token, then the words; after the
start token and after each word it predicts the next word, or the end.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.heads.mask import zero_loss
from sightline.structures.vocabulary import END, PADDING, UNKNOWN

State = tuple[Tensor, Tensor]
"""Hidden and cell state of the LSTM, [layers, N, hidden] each."""


class Captions(NamedTuple):
    """Generated captions.

    Attributes:
        ids: [N, L] int64, word ids; `END` after the last word.
        scores: [N] log probability of each caption, with its end.
    """

    ids: Tensor
    scores: Tensor


class TokenNorm(nn.BatchNorm1d):
    """Batch normalisation [N, C] of tokens over the features of a batch; a single one takes the running statistics."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and len(input) == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class Captioner(nn.Module):
    """Features [N, D] → captions.

    Departures from the paper: the token of the features is normalised over the features of a batch, and is also added
    to every word; the unknown word is learned but never generated. Most of what a feature contains is common to all
    regions. Batch normalisation removes it, so that the token is what distinguishes a region. Without it, the network
    first learns the most common caption, and only much later what makes a difference. A normalisation of each token by
    itself (layer normalisation) does not help, since the common part remains.

    Args:
        inputs: D.
        vocabulary: number of tokens V that can follow another (`len(Vocabulary)`); id V is the start token.
        embedding: length of the vectors of tokens.
        hidden: width of the LSTM.
        layers: number of LSTM layers.
        dropout: dropout probability before the last layer.
        repeated: whether the token of the features is added to every later token; False as in the paper.
    """

    def __init__(
        self,
        inputs: int,
        vocabulary: int,
        embedding: int = 512,
        hidden: int = 512,
        layers: int = 1,
        dropout: float = 0.0,
        repeated: bool = True,
    ):
        super().__init__()
        self.vocabulary = vocabulary
        self.repeated = repeated
        self.image = nn.Sequential(nn.Linear(inputs, embedding), TokenNorm(embedding), nn.ReLU())
        self.embedding = nn.Embedding(vocabulary + 1, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, vocabulary)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias_ih"):  # the forget gate starts open (Jozefowicz et al. 2015)
                with torch.no_grad():
                    parameter[hidden : 2 * hidden] = 1.0

    def forward(self, features: Tensor, ids: Tensor) -> Tensor:
        """The scores of every next token, before the softmax, if the words before it are given (teacher forcing).

        Args:
            features: [N, D].
            ids: [N, T], as `Vocabulary.encode` returns them.

        Returns:
            [N, T, V]: scores of the token at each position of `ids`.
        """
        start = ids.new_full((len(ids), 1), self.vocabulary)
        before = torch.cat([start, ids[:, :-1].clamp(min=END)], 1)
        image = self.image(features)[:, None]
        words = self.embedding(before)
        states, _ = self.lstm(torch.cat([image, words + image if self.repeated else words], 1))
        return self.output(self.dropout(states[:, 1:]))

    def loss(self, features: Tensor, ids: Tensor) -> Tensor:
        """The mean cross-entropy of all words and ends (section 3.2); 0 if there are none.

        Shapes as for `forward`.
        """
        if not len(ids):
            return zero_loss(self)
        count = (ids != PADDING).sum().clamp(min=1)
        return -self.log_probabilities(features, ids).sum() / count

    def log_probabilities(self, features: Tensor, ids: Tensor) -> Tensor:
        """The log probability [N, T] of each token of `ids`, given those before it; 0 for padding."""
        if not len(ids):  # an LSTM does not take an empty batch
            return features.new_zeros(ids.shape)
        scores = self(features, ids).float().log_softmax(-1)
        chosen = scores.gather(2, ids.clamp(min=END)[..., None])[..., 0]
        return chosen.masked_fill(ids == PADDING, 0.0)

    @torch.no_grad()
    def greedy(self, features: Tensor, longest: int = 15) -> Captions:
        """Captions whose words are each the most likely one after those before it."""
        return self.beam(features, longest, 1)

    @torch.no_grad()
    def beam(self, features: Tensor, longest: int = 15, width: int = 3) -> Captions:
        """The most likely captions, by beam search over all features at once.

        Args:
            features: [N, D].
            longest: maximum number of words. A caption of this length ends without predicting its end.
            width: number of captions that are continued with every word; 1 is greedy.

        Returns:
            The caption with the largest log probability for each of the N features, L = `longest`.
        """
        count, size = len(features), self.vocabulary
        ids = torch.full((count, width, longest), END, device=features.device)
        if not count or not longest:
            return Captions(ids[:, 0], features.new_zeros(count, dtype=torch.float32))
        image = self.image(features)
        scores, state = self._begin(image)
        best = scores.new_full((count, width), -torch.inf)
        best[:, 0] = 0.0  # all beams begin alike: only the first counts
        state = (state[0].repeat_interleave(width, 1), state[1].repeat_interleave(width, 1))
        image = image.repeat_interleave(width, 0)
        following = scores.repeat_interleave(width, 0).view(count, width, size)
        ended = torch.zeros(count, width, dtype=torch.bool, device=features.device)
        first = torch.arange(count, device=features.device)[:, None] * width
        for step in range(longest):
            following = following.masked_fill(ended[..., None], -torch.inf)
            following[..., END] = following[..., END].masked_fill(ended, 0.0)
            total = (best[..., None] + following).flatten(1)
            best, place = total.topk(width, 1)
            beam, token = place // size, place % size
            ids = ids.gather(1, beam[..., None].expand(-1, -1, longest))
            ids[..., step] = token
            ended = token == END
            if bool(ended.all()) or step == longest - 1:
                break
            rows = (first + beam).flatten()
            logits, state = self._step(token.flatten(), image, (state[0][:, rows], state[1][:, rows]))
            following = logits.view(count, width, size)
        return Captions(ids[:, 0], best[:, 0])  # topk sorts: the first beam is the best

    def _begin(self, image: Tensor) -> tuple[Tensor, State]:
        """The log probabilities [N, V] of the first word, and the state after the start token."""
        _, state = self.lstm(image[:, None])
        start = torch.full((len(image),), self.vocabulary, device=image.device)
        return self._step(start, image, state)

    def _step(self, token: Tensor, image: Tensor, state: State) -> tuple[Tensor, State]:
        """The log probabilities [N, V] of the word after `token` [N], and the state after it."""
        word = self.embedding(token) + image if self.repeated else self.embedding(token)
        states, state = self.lstm(word[:, None], state)
        scores = self.output(self.dropout(states[:, 0])).float()
        scores[:, UNKNOWN] = -torch.inf
        return scores.log_softmax(-1), state
