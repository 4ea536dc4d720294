"""CvT: our names are the original's, with the stages in a list."""

from __future__ import annotations

from minswin.models.cvt import CvT as Model
from minswin.weights.families.family import Facts, Family, Settings, State, count

NAMES = """
    stages.{i}.*
        cls_token
        patch_embed.proj
        patch_embed.norm
        blocks.{j}.*
            norm1
            attn.conv_proj_q.conv
            attn.conv_proj_q.bn
            attn.conv_proj_k.conv
            attn.conv_proj_k.bn
            attn.conv_proj_v.conv
            attn.conv_proj_v.bn
            attn.proj_q
            attn.proj_k
            attn.proj_v
            attn.proj
            norm2
            mlp.fc1
            mlp.fc2
    norm
    head
"""

MICROSOFT = """
    stages.{i}.*                  stage{i}.*
"""

TRANSFORMERS = """
    stages.{i}.*                  cvt.encoder.stages.{i}.*
        patch_embed.*                 embedding.convolution_embeddings.*
            proj                          projection
            norm                          normalization
        blocks.{j}.*                  layers.{j}.*
            norm1                         layernorm_before
            attn.*                        attention.attention.*
                conv_proj_q.*                 convolution_projection_query.convolution_projection.*
                    conv                          convolution
                    bn                            normalization
                conv_proj_k.*                 convolution_projection_key.convolution_projection.*
                    conv                          convolution
                    bn                            normalization
                conv_proj_v.*                 convolution_projection_value.convolution_projection.*
                    conv                          convolution
                    bn                            normalization
                proj_q                        projection_query
                proj_k                        projection_key
                proj_v                        projection_value
            attn.proj                     attention.output.dense
            norm2                         layernorm_after
            mlp.fc1                       intermediate.dense
            mlp.fc2                       output.dense
    norm                          layernorm
    head                          classifier
"""


def _settings(weights: State, _: Facts) -> Settings:
    number = count(weights, r"stages\.(\d+)\.")
    patches = [weights[f"stages.{i}.patch_embed.proj.weight"] for i in range(number)]
    hidden = weights["stages.0.blocks.0.mlp.fc1.weight"].shape[0]
    return {
        "embed_dims": tuple(len(weight) for weight in patches),
        "patch_sizes": tuple(weight.shape[2] for weight in patches),
        "depths": tuple(count(weights, rf"stages\.{i}\.blocks\.(\d+)\.") for i in range(number)),
        "mlp_ratio": hidden / len(patches[0]),
    }


CVT = Family(
    paper="CvT",
    model=Model,
    mark=r"stages\.0\.blocks\.0\.attn\.conv_proj_q\.conv\.weight",
    names=NAMES,
    tables={"microsoft": MICROSOFT, "transformers": TRANSFORMERS},
    settings=_settings,
    base="cvt",
)
